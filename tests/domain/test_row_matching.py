"""Rows of a regenerated file are found wherever they moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.row_matching import Identity, RowList, identity_of, match_rows
from ls_pipeline.domain.tasks import NO_POSITION


def rows(values, key="", positions=None):
    listed = RowList()
    for position, value in enumerate(values):
        data = value if isinstance(value, dict) or value is None else {"text": value}
        listed.add(positions[position] if positions else position, identity_of(data, key))
    return listed


def pairs(known, new, **options):
    return match_rows(known, new, **options).pairs.tolist()


def test_rows_are_known_by_their_data_then_by_their_position():
    assert pairs(rows("abcd"), rows("xdbya")) == [-1, 3, 1, -1, 0]
    assert pairs(rows("abcd"), rows("abXd")) == [0, 1, 2, 3]
    assert pairs(rows("ab"), rows("")) == []
    assert pairs(rows(""), rows("ab")) == [-1, -1]


def test_row_that_is_gone_has_no_position():
    known = rows("ab", positions=[0, NO_POSITION])
    assert pairs(known, rows("xy")) == [0, -1]
    assert pairs(known, rows("xb")) == [0, 1]  # put back


def test_row_key_decides_before_data_and_position():
    known = rows([{"id": 1, "t": "a"}, {"id": 2, "t": "b"}], key="id")
    new = [{"id": 9, "t": "z"}, {"id": 2, "t": "B"}, {"id": 1, "t": "a"}]
    assert pairs(known, rows(new, key="id")) == [-1, 1, 0]
    assert pairs(known, rows([{"id": 3, "t": "a"}], key="id")) == [-1]  # 1 is gone, 3 is new


def test_row_key_that_is_set_later_is_learned_from_data_and_position():
    known = rows([{"id": 1, "t": "a"}, {"id": 2, "t": "b"}])
    new = rows([{"id": 2, "t": "b"}, {"id": 1, "t": "A"}], key="id")
    assert pairs(known, new) == [1, -1]  # at the place of row 1 there was row 2, which moved
    assert pairs(known, rows([{"id": 1, "t": "A"}, {"id": 2, "t": "b"}], key="id")) == [0, 1]


def test_second_row_with_a_key_is_repeated():
    new = rows([{"id": 1, "t": "a"}, {"id": 2}, {"id": 1, "t": "b"}], key="id")
    matching = match_rows(rows([{"id": 1, "t": "b"}], key="id"), new)
    assert matching.repeated.tolist() == [False, False, True]
    assert matching.pairs.tolist() == [0, -1, -1]


def test_broken_row_is_known_by_its_position():
    assert pairs(rows("abc"), rows(["a", None, "c"])) == [0, 1, 2]
    assert pairs(rows("abc"), rows(["c", None, "a"])) == [2, 1, 0]


def test_position_says_nothing_if_the_rest_is_unread():
    assert pairs(rows("abc"), rows("xa"), is_whole=False) == [-1, 0]


def test_gone_rows_are_those_without_a_pair():
    known = rows("abcd")
    assert match_rows(known, rows("bx")).gone() == [0, 2, 3]


@pytest.mark.parametrize("value", ["1", 1, 1.5, True])
def test_keys_of_different_kinds_differ(value):
    others = {identity_of({"id": other}, "id").row_key for other in ("1", 1, 1.5, True)}
    assert len(others) == 4
    assert identity_of({"id": value}, "id").row_key in others
    assert identity_of({"id": None}, "id").row_key == ""
    assert identity_of(None, "id") == Identity()


VALUES = st.lists(st.sampled_from("abcdef"), max_size=8)


@given(VALUES, VALUES)
def test_as_many_rows_as_can_be_are_paired_and_each_once(before, after):
    """Compared with a slow way to say the same."""
    expected, free = [-1] * len(after), set(range(len(before)))
    for place, value in enumerate(after):
        same = [n for n in sorted(free) if before[n] == value]
        if same:
            expected[place] = same[0]
            free.discard(same[0])
    for place in range(len(after)):
        if expected[place] < 0 and place in free:
            expected[place] = place
            free.discard(place)
    assert pairs(rows(before), rows(after)) == expected


KEYS = st.lists(st.integers(0, 6), max_size=6, unique=True)


@given(KEYS, KEYS)
def test_with_a_row_key_the_rows_are_those_with_the_same_key(before, after):
    known = rows([{"id": key, "t": "x"} for key in before], key="id")
    new = rows([{"id": key, "t": "y"} for key in after], key="id")
    expected = [before.index(key) if key in before else -1 for key in after]
    assert pairs(known, new) == expected
