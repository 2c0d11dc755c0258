import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.snapshot.splits import SplitRule, assign_split, group_by_error

SHARE = st.floats(0, 0.49)


@given(st.text(), SHARE, SHARE)
def test_split_depends_on_the_object_alone(uri, validation, test):
    rule = SplitRule(validation, test)

    assert assign_split(uri, rule) == assign_split(uri, rule)


@given(st.text(), SHARE, SHARE, SHARE, SHARE)
def test_growing_shares_take_objects_from_training_only(uri, validation, test, more, most):
    before = assign_split(uri, SplitRule(validation, test))
    after = assign_split(uri, SplitRule(max(validation, more), max(test, most)))

    assert before in ("train", after)


def test_shares_are_approximately_met():
    splits = [
        assign_split(f"s3://bucket/{number}.json", SplitRule(0.1, 0.2)) for number in range(5000)
    ]

    assert splits.count("validation") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


def test_split_of_an_object_never_changes():
    uris = [f"s3://bucket/{number}.json" for number in range(24)]

    splits = {assign_split(uri, SplitRule()): [] for uri in uris}
    for number, uri in enumerate(uris):
        splits[assign_split(uri, SplitRule())].append(number)

    assert (splits["test"], splits["validation"]) == ([0, 8, 16, 17, 18, 22], [4])


def task(uri="s3://b/videos/7/1.jpg", row=0, task_id=1):
    return {"object_uri": uri, "object_row": row, "task_id": task_id}


@pytest.mark.parametrize(
    ("group_by", "uri", "data", "group"),
    [
        ("", "s3://b/a", {}, "s3://b/a"),
        ("row", "s3://b/a", {}, "s3://b/a 0"),
        ("data:patient", "s3://b/a", {"patient": "x"}, "x"),
        ("data:patient.id", "s3://b/a", {"patient": {"id": 7}}, "7"),
        ("data:patient.id", "s3://b/a", {"patient.id": "7"}, "7"),
        ("data:patient.id", "s3://b/a", {"patient": {"id": 7.0}}, "7"),
        ("data:patient.id", "s3://b/a", {"patient": {"id": False}}, "false"),
        ("data:patient.id", "s3://b/a", {"patient": {"id": [1, "a"]}}, '[1,"a"]'),
        ("data:patient.id", "s3://b/a", {"patient": {"id": ""}}, "s3://b/a"),
        ("data:patient.id", "s3://b/a", {"patient": {"id": None}}, "s3://b/a"),
        ("data:patient.id", "s3://b/a", {"patient": "x"}, "s3://b/a"),
        ("data:patient.id", None, {}, "task 1"),
        ("data:patient.id", None, {"patient": {"id": "x"}}, "x"),
        ("data:patient.id", "s3://b/a", None, "s3://b/a"),
        ("key:videos/([^/]+)/", "s3://b/videos/7/1.jpg", {}, "7"),
        ("key:videos/([^/]+)/", "gs://c/videos/7/2.jpg", {}, "7"),
        ("key:videos/", "s3://b/videos/7/1.jpg", {}, "videos/"),
        ("key:(a)/(b)?", "s3://b/a/1", {}, "a\n"),
        ("key:x*", "s3://b/a/1", {}, "s3://b/a/1"),
        ("key:7/", "s3://b/videos/7/1.jpg", {}, "s3://b/videos/7/1.jpg"),
        ("key:/*([^/]+)", "s3://b//a//1", {}, "a"),
        ("key:.*", "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint:labels/a", {}, "a"),
        ("key:.*", None, {}, "task 1"),
        ("row", None, {}, "task 1 0"),
    ],
)
def test_group_is_what_the_param_says(group_by, uri, data, group):
    assert SplitRule(group_by=group_by).group(task(uri), data) == group


@given(st.text(), st.text(), SHARE, SHARE)
def test_tasks_of_a_group_are_in_one_split(uri, other, validation, test):
    rule = SplitRule(validation, test, "data:patient")
    splits = {rule.split(task(f"s3://b/{key}"), {"patient": "x"}) for key in (uri, other)}

    assert len(splits) == 1


def test_rows_of_an_object_are_apart_on_demand():
    rule = SplitRule(group_by="row")

    assert len({rule.split(task(row=row), {}) for row in range(50)}) == 3


@pytest.mark.parametrize(
    ("group_by", "error"),
    [
        ("patient", "'patient' must be data: with a key of the task data"),
        ("data:", "'data:' must be data: with a key"),
        ("key:", "'key:' must be data:"),
        ("rows", "'rows' must be"),
        ("key:(", r"'key:\(' is not valid RE2: missing \)"),
        ("key:(?!a)", "is not valid RE2: invalid perl operator"),
    ],
)
def test_group_of_another_form_is_named(group_by, error):
    assert re.search(f"^group_by .*{error}", group_by_error(group_by))
