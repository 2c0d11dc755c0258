"""A run that would take away most of what there is stops before the first, until it is allowed."""

import pytest

from ls_pipeline.domain.errors import MassChangeError
from ls_pipeline.domain.mass_change import is_mass_change
from tests.bench import RESULT


@pytest.fixture
def full(bench):
    """Return a bench with thirty tasks; all objects but five are gone from the bucket."""
    bench.set(on_delete="delete")
    for number in range(30):
        bench.put(f"{number}.json", {"text": str(number)})
    bench.load()
    return bench


def empty(bench, numbers=range(25)):
    for number in numbers:
        bench.bucket.delete(f"{number}.json")


@pytest.mark.parametrize(
    ("count", "total", "is_mass"),
    [(19, 19, False), (20, 39, True), (20, 40, False), (21, 41, True), (5000, 10000, False)],
)
def test_mass_change_is_more_than_half_and_at_least_twenty(count, total, is_mass):
    assert is_mass_change(count, total) == is_mass


def test_emptied_bucket_deletes_no_task_without_consent(full):
    empty(full)
    before = dict(full.tasks)
    for _ in range(2):
        with pytest.raises(MassChangeError, match="25 of 30") as stopped:
            full.load()

    assert full.tasks == before
    assert "--allow-mass-change" in stopped.value.hint
    assert full.load(allow_mass_change=True).tasks_deleted == 25
    assert len(full.tasks) == 5


def test_objects_that_come_back_need_no_consent(full):
    empty(full)
    with pytest.raises(MassChangeError):
        full.load()
    for number in range(25):
        full.put(f"{number}.json", {"text": str(number)})
    full.load()

    assert len(full.tasks) == 30


def test_new_objects_are_loaded_although_the_guard_stops_deletions(full):
    empty(full)
    full.put("new.json", {"text": "new"})
    with pytest.raises(MassChangeError):
        full.load()

    assert ("new.json", 0) in full.tasks


def test_consent_covers_no_larger_plan_than_was_shown(full):
    empty(full)
    with pytest.raises(MassChangeError, match="25 of 30"):
        full.load()
    empty(full, range(25, 30))
    with pytest.raises(MassChangeError, match="30 of 30"):
        full.load(allow_mass_change=True)
    full.load(allow_mass_change=True)

    assert full.tasks == {}


def test_tasks_that_people_have_worked_on_do_not_count(full):
    empty(full)
    for number in range(10):
        full.app.annotate(full.task_id(f"{number}.json"), RESULT)
    full.load()

    assert len(full.tasks) == 15


def test_rows_that_a_replaced_object_lost_count_too(bench):
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": str(row)} for row in range(30)])
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    with pytest.raises(MassChangeError, match="29 of 30"):
        bench.load()

    assert len(bench.tasks) == 30


def test_updates_are_not_guarded(full):
    for number in range(30):
        full.put(f"{number}.json", {"text": "new"})

    assert full.load().tasks_updated == 30


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("gone", ["annotations", "tasks"])
def test_exports_take_away_most_files_only_with_consent(full, gone, delete):
    full.set(on_delete="delete", target={"delete": delete})
    ids = [full.task_id(f"{number}.json") for number in range(30)]
    annotations = [full.app.annotate(task_id, RESULT) for task_id in ids]
    full.export()
    before = full.files
    for task_id, annotation in zip(ids[:25], annotations, strict=False):
        if gone == "tasks":
            full.app.delete_task(task_id)
        else:
            full.app.delete_annotation(annotation)
    for _ in range(2):
        with pytest.raises(MassChangeError, match="25 of 30"):
            full.export()

    assert full.files == before
    full.export(allow_mass_change=True)
    assert sum(b'"result"' in body for body in full.files.values()) == 5


def test_new_labels_are_exported_although_the_guard_stops_tombstones(full):
    ids = [full.task_id(f"{number}.json") for number in range(30)]
    for task_id in ids[:25]:
        full.app.annotate(task_id, RESULT)
    full.export()
    for task_id in ids[:25]:
        full.app.delete_task(task_id)
    full.app.annotate(ids[29], RESULT)
    with pytest.raises(MassChangeError):
        full.export()

    assert f"{ids[29]}.json" in full.files
