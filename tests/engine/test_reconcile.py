"""Imports whose reply was lost: no task is lost, and no duplicate remains."""

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import LabelStudioUnavailableError, LeaseLostError
from ls_pipeline.engine import import_queue
from ls_pipeline.engine.reconcile import ARRIVAL_SECONDS
from ls_pipeline.resources.ledger.intents import LOOK_SECONDS
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from tests.bench import RESULT
from tests.engine.test_load import Wrapped


class LateImports:
    """Imports whose connection breaks, and which Label Studio commits later."""

    def __init__(self, app):
        self.app = app
        self.waiting = []

    def import_tasks(self, project_id, tasks):
        self.waiting.append((project_id, tasks))
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    def commit(self):
        while self.waiting:
            self.app.import_tasks(*self.waiting.pop())


@pytest.fixture
def late_imports(bench):
    """Return an import of two rows that Label Studio received, but has not committed yet."""
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    late_imports = LateImports(bench.app)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=late_imports.import_tasks))
    return late_imports


def rows(bench):
    """Return (key, row) of every task, duplicates included."""
    metas = [task["meta"]["ls_pipeline"] for task in bench.app.tasks.values()]
    return sorted((meta["uri"].removeprefix("s3://bucket/"), meta["row"]) for meta in metas)


EACH_ROW_ONCE = [("a.json", 0), ("a.json", 1)]


def test_import_committed_while_the_next_run_waits_is_recovered(bench, late_imports, monkeypatch):
    def sleep(seconds):
        bench.time.sleep(seconds)
        late_imports.commit()

    bench.ledger.database.sleep = sleep
    result = bench.load()

    assert (rows(bench), result.tasks_created, bench.connection_ledger.intents.open()) == (
        EACH_ROW_ONCE,
        2,
        [],
    )


def test_wait_for_an_import_ends_though_the_clock_is_set_back(bench, late_imports):
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        bench.time.sleep(-3600)

    bench.ledger.database.sleep = sleep
    bench.load()

    assert sum(waits) <= ARRIVAL_SECONDS
    assert rows(bench) == EACH_ROW_ONCE


def test_import_that_never_arrived_is_repeated(bench, late_imports):
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE


@pytest.mark.parametrize("later", [0, 600, sum(LOOK_SECONDS)])
def test_import_committed_after_its_repeat_leaves_no_duplicates(bench, late_imports, later):
    bench.load()
    bench.time.sleep(later)
    late_imports.commit()
    count_before = len(rows(bench))
    result = bench.load()

    assert (count_before, rows(bench)) == (4, EACH_ROW_ONCE)
    assert "2 tasks had arrived twice" in result.notes[-1]
    assert {bench.task_id("a.json", row) for row in (0, 1)} == set(bench.app.tasks)


def test_late_import_with_the_ids_of_deleted_tasks_leaves_no_duplicates(bench):
    bench.app.reuses_ids = True
    bench.put("first.json", [{"text": str(row)} for row in range(3)])
    bench.load()
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    late_imports = LateImports(bench.app)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=late_imports.import_tasks))
    for task_id in list(bench.app.tasks):
        bench.app.delete_task(task_id)
    late_imports.commit()
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE


def test_late_update_of_a_task_whose_id_was_reused_is_made_good(bench):
    bench.app.reuses_ids = True
    bench.put("a.json", [{"text": "old"}])
    bench.load()
    late = []

    def update_task(*args):
        late.append(args)
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, update_task=update_task))
    bench.app.delete_task(1)
    bench.load()
    bench.app.update_task(*late[0])
    bench.load()

    assert bench.tasks == {("a.json", 0): {"text": "0"}, ("a.json", 1): {"text": "1"}}


def test_duplicate_that_a_person_works_on_stays(bench, late_imports):
    bench.load()
    late_imports.commit()
    late = max(bench.app.tasks)
    bench.app.annotate(late, RESULT)
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE
    assert late in bench.app.tasks
    assert late == bench.task_id("a.json", 1)


def test_duplicates_both_worked_on_stay_and_are_reported(bench, late_imports):
    bench.load()
    late_imports.commit()
    for task_id in list(bench.app.tasks):
        bench.app.annotate(task_id, RESULT)
    result = bench.load()

    assert len(rows(bench)) == 4
    assert "a.json has two tasks, " in result.notes[0]


def test_late_import_of_a_replaced_object_leaves_no_duplicates(bench, late_imports):
    bench.load()
    bench.put("a.json", [{"text": "new"}, {"text": "1"}])
    bench.load()
    late_imports.commit()
    bench.load()

    assert bench.tasks == {("a.json", 0): {"text": "new"}, ("a.json", 1): {"text": "1"}}


def test_late_import_stays_if_each_version_has_its_task(bench, late_imports):
    bench.set(on_change="new_task")
    bench.load()
    bench.put("a.json", [{"text": "new"}])
    bench.load()
    late_imports.commit()
    bench.load()

    texts = sorted(task["data"]["text"] for task in bench.app.tasks.values())
    assert texts == ["0", "1", "new"]


def test_pending_import_expires(bench, late_imports):
    for _ in range(len(LOOK_SECONDS) + 2):
        bench.load()
        bench.time.sleep(max(LOOK_SECONDS))

    assert bench.connection_ledger.intents.open() == []


def test_recheck_does_not_recreate_a_task_deleted_by_hand(bench, late_imports):
    bench.load()
    bench.app.delete_task(bench.task_id("a.json", 0))
    bench.load()

    assert rows(bench) == [("a.json", 1)]


def test_late_import_restores_no_task_deleted_by_hand(bench, late_imports):
    bench.load()
    bench.app.delete_task(bench.task_id("a.json", 0))
    late_imports.commit()
    bench.load()

    assert rows(bench) == [("a.json", 1)]


def test_overtaken_run_removes_the_tasks_it_imported(bench):
    """It pauses between its last check of the lease and its import, and wakes an hour later."""
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])

    def pause(project_id, tasks):
        bench.time.sleep(LEASE_SECONDS + 3600)
        bench.load()
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, import_tasks=pause))
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE
    assert {bench.task_id("a.json", row) for row in (0, 1)} == set(bench.app.tasks)


def test_tasks_of_an_overtaken_and_killed_run_are_removed(bench):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])

    class Killed(BaseException):
        pass

    def pause(project_id, tasks):
        bench.time.sleep(LEASE_SECONDS + 1)
        bench.load()
        bench.app.import_tasks(project_id, tasks)
        raise Killed

    with pytest.raises(Killed):
        bench.load(app=Wrapped(bench.app, import_tasks=pause))
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE


def test_overtaken_run_overwrites_no_task(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "newer"})

    def pause(project_id, ids):
        completions = list(bench.app.completions(project_id, ids))
        if bench.time.now < 1_900_000_000:
            bench.time.now = 1_900_000_000
            bench.put("a.json", {"text": "newest"})
            bench.load()
        return iter(completions)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, completions=pause))

    assert bench.tasks == {("a.json", 0): {"text": "newest"}}


# -- objects and rows that are removed before the import is committed ------------------------------


def test_late_import_of_a_removed_object_is_undone(bench, late_imports):
    bench.set(on_delete="delete")
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()
    late_imports.commit()
    bench.load()

    assert rows(bench) == []


def test_late_import_of_a_removed_row_is_undone(bench, late_imports):
    bench.set(on_delete="delete")
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    late_imports.commit()
    bench.load()

    assert rows(bench) == [("a.json", 0)]


def test_late_task_of_a_removed_row_stays_once_labeled(bench, late_imports):
    bench.set(on_delete="delete")
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    late_imports.commit()
    late = max(bench.app.tasks)
    bench.app.annotate(late, RESULT)
    bench.load()

    assert rows(bench) == EACH_ROW_ONCE
    assert bench.task_id("a.json", 1) == late


def test_late_task_of_a_removed_labeled_object_is_undone(bench, late_imports):
    bench.set(on_delete="delete")
    bench.load()
    bench.app.annotate(bench.task_id("a.json", 0), RESULT)
    bench.bucket.delete("a.json")
    bench.load()
    late_imports.commit()
    bench.load()

    assert rows(bench) == [("a.json", 0)]


@pytest.mark.parametrize(("policy", "remaining"), [("delete", []), ("keep", EACH_ROW_ONCE)])
def test_object_removed_during_a_pending_import_counts_as_removed(
    bench, late_imports, policy, remaining
):
    bench.set(on_delete=policy)
    late_imports.commit()
    bench.bucket.delete("a.json")
    result = bench.load()

    assert (rows(bench), result.changes[Change.REMOVED]) == (remaining, 1)


def test_object_removed_between_its_batches_leaves_no_task(bench, monkeypatch):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 2)
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": str(row)} for row in range(5)])
    late_imports = LateImports(bench.app)

    def only_one_batch(project_id, tasks):
        if bench.app.tasks:
            late_imports.import_tasks(project_id, tasks)
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=only_one_batch))
    bench.bucket.delete("a.json")
    bench.load()

    assert rows(bench) == []


def test_killed_import_of_a_new_version_is_recorded_beside_the_old_one(bench):
    bench.set(on_change="new_task")
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "new"})

    def kill(project_id, tasks):
        bench.app.import_tasks(project_id, tasks)
        raise LabelStudioUnavailableError("no answer")

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=kill))
    bench.load()

    assert sorted(task["data"]["text"] for task in bench.app.tasks.values()) == ["new", "old"]


def test_removal_of_a_duplicate_reads_no_object_whose_changes_are_ignored(bench, late_imports):
    bench.set(on_change="ignore")
    bench.load()
    bench.put("a.json", b"not json")
    bench.load()
    late_imports.commit()
    result = bench.load()

    assert "2 tasks had arrived twice" in result.notes[-1]
    assert (rows(bench), bench.reasons) == (EACH_ROW_ONCE, {})
