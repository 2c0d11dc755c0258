import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.snapshot.splits import Shares, assign_split

SHARE = st.floats(0, 0.49)


@given(st.text(), SHARE, SHARE)
def test_split_depends_on_the_object_alone(uri, validation, test):
    shares = Shares(validation, test)

    assert assign_split(uri, shares) == assign_split(uri, shares)


@given(st.text(), SHARE, SHARE, SHARE, SHARE)
def test_growing_shares_take_objects_from_training_only(uri, validation, test, more, most):
    before = assign_split(uri, Shares(validation, test))
    after = assign_split(uri, Shares(max(validation, more), max(test, most)))

    assert before in ("train", after)


def test_shares_are_approximately_met():
    splits = [
        assign_split(f"s3://bucket/{number}.json", Shares(0.1, 0.2)) for number in range(5000)
    ]

    assert splits.count("validation") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


def test_split_of_an_object_never_changes():
    uris = [f"s3://bucket/{number}.json" for number in range(24)]

    splits = {assign_split(uri, Shares()): [] for uri in uris}
    for number, uri in enumerate(uris):
        splits[assign_split(uri, Shares())].append(number)

    assert (splits["test"], splits["validation"]) == ([0, 8, 16, 17, 18, 22], [4])
