import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.objects import Filter, compile_regex, folder, overlap, prefix_end


@pytest.mark.parametrize("prefix", ["images", "images/"])
def test_prefix_names_a_folder_with_or_without_its_slash(prefix):
    rejected = [
        Filter(prefix).rejected_by(key) for key in ("images/a", "images/b/c", "images-old/a")
    ]

    assert rejected == ["", "", "prefix"]


def test_empty_prefix_is_the_whole_bucket():
    assert folder("") == ""


def test_folder_markers_are_not_tasks():
    assert Filter("").rejected_by("images/") == "folder"


def test_regex_is_matched_from_the_start_of_the_full_key():
    select = Filter("a", r"a/.*\.json")

    assert [select.rejected_by(key) for key in ("a/b.json", "a/b.json.bak", "a/b.txt")] == [
        "",
        "",
        "regex",
    ]


def test_excluded_keys_are_those_of_the_regex_without_the_excluded():
    select = Filter("", r".*\.png", r".*_mask\.|tmp/")

    assert [select.rejected_by(key) for key in ("a.png", "a_mask.png", "tmp/a.png", "a.txt")] == [
        "",
        "exclude",
        "exclude",
        "regex",
    ]


def test_text_of_a_filter_differs_if_it_excludes_something():
    assert len({Filter("a").text, Filter("a", "b").text, Filter("a", "b", "c").text}) == 3


def test_regex_takes_linear_time():
    assert Filter("", "^(a+)+$").rejected_by("a" * 1000 + "!") == "regex"


def test_regex_refuses_what_re2_does_not_support():
    with pytest.raises(re2.error):
        compile_regex(r"(a)\1")


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ("", "", True),
        ("", "labels", True),
        ("a", "a/b", True),
        ("a", "ab", False),
        ("in", "out", False),
    ],
)
def test_overlap_is_one_folder_inside_the_other(one, other, answer):
    assert (overlap(one, other), overlap(other, one)) == (answer, answer)


EDGES = st.text(st.sampled_from("ab/\x00\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=4)


@given(EDGES, EDGES)
def test_exactly_what_starts_with_a_prefix_is_before_its_end(prefix, text):
    end = prefix_end(prefix)

    assert text.startswith(prefix) == (text >= prefix and (not end or text < end))
    end.encode()
