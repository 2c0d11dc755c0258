import pytest

from ls_pipeline.domain.annotators import annotator_name, with_known_annotators
from ls_pipeline.domain.tasks import Task

USERS = {"me@example.com": 1, "you@example.com": 7}
STRANGER = {"id": 1, "email": "other@example.com", "first_name": "O"}


def task(*annotators, **fields):
    annotations = [{"result": [], "completed_by": annotator} for annotator in annotators]
    return Task(0, {"text": "a"}, annotations=annotations, **fields)


@pytest.mark.parametrize(
    "annotator",
    [7, "you@example.com", "You@Example.com", {"id": 900, "email": "you@example.com"}, {"id": 7}],
)
def test_user_is_found_by_id_and_by_email(annotator):
    known, unknown = with_known_annotators(task(annotator), USERS)

    assert (known, unknown) == (task(7), [])


@pytest.mark.parametrize(
    "annotator", [901, "other@example.com", STRANGER, {"id": 901}, True, 1.0, [7], "7"]
)
def test_annotator_who_is_no_user_is_kept_in_meta(annotator):
    known, unknown = with_known_annotators(task(7, annotator, meta={"x": 1}), USERS)

    assert known.annotations == [{"result": [], "completed_by": 7}, {"result": []}]
    assert (known.meta, unknown) == ({"annotators": [None, annotator], "x": 1}, [annotator])


def test_annotators_that_meta_names_already_stay():
    known, unknown = with_known_annotators(task(901, meta={"annotators": [5]}), USERS)

    assert (known.meta, unknown) == ({"annotators": [5]}, [901])


def test_annotator_is_named_by_email():
    assert [annotator_name(each) for each in (STRANGER, {"id": 5}, 6)] == [
        "other@example.com",
        "5",
        "6",
    ]
