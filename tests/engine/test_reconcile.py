"""Imports whose outcome nobody told: nothing is lost, and in the end nothing is doubled."""

from dataclasses import replace

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import LabelStudioUnavailableError, LeaseLostError
from ls_pipeline.engine import import_queue
from ls_pipeline.engine.reconcile import Reconciler
from ls_pipeline.resources.ledger.imports import RECHECK_SECONDS
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from tests.bench import RESULT
from tests.engine.test_load import Wrapped


class Slow:
    """A Label Studio that is cut off from us in mid-import, and commits when it gets to it."""

    def __init__(self, app):
        self.app = app
        self.waiting = []

    def import_tasks(self, project_id, tasks):
        self.waiting.append((project_id, tasks))
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    def catch_up(self):
        while self.waiting:
            self.app.import_tasks(*self.waiting.pop())


@pytest.fixture
def slow(bench):
    """Give a Label Studio that took an import of two rows, and has not committed it yet."""
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    slow = Slow(bench.app)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=slow.import_tasks))
    return slow


def places(bench):
    """Give (key, row) of every task, doubled ones twice."""
    metas = [task["meta"]["ls_pipeline"] for task in bench.app.tasks.values()]
    return sorted((one["uri"].removeprefix("s3://bucket/"), one["row"]) for one in metas)


ONCE = [("a.json", 0), ("a.json", 1)]


def test_task_that_got_the_id_of_a_deleted_double_is_left_alone(bench):
    bench.app.reuses_ids = True
    bench.put("a.json", {"text": "a"})
    bench.load()
    kept = bench.connection_ledger.objects.rows_of("a.json")[0]
    whole = bench.app.tasks[kept.task_id]
    bench.app.delete_task(kept.task_id)
    bench.put("o.json", {"text": "o"})
    bench.load()
    (late,) = bench.app.import_tasks(1, [{"data": whole["data"], "meta": whole["meta"]}])
    for number in (kept.task_id, late):
        bench.app.annotate(number, RESULT)
    with bench.run(bench.bucket) as run:
        Reconciler(run)._remove(replace(kept, task_id=late), kept)

    assert bench.task_id("o.json") == kept.task_id
    assert {kept.task_id, late} == set(bench.app.tasks)


def test_import_that_is_committed_while_the_next_pass_waits_is_taken_up(bench, slow, monkeypatch):
    def sleep(seconds):
        bench.time.sleep(seconds)
        slow.catch_up()

    bench.ledger.database.sleep = sleep
    done = bench.load()

    assert (places(bench), done.tasks_created, bench.connection_ledger.imports.pending()) == (
        ONCE,
        2,
        [],
    )


def test_import_that_never_arrived_is_made_again(bench, slow):
    bench.load()

    assert places(bench) == ONCE


@pytest.mark.parametrize("later", [0, 600, sum(RECHECK_SECONDS)])
def test_import_that_is_committed_after_it_was_made_again_is_not_doubled(bench, slow, later):
    bench.load()
    bench.time.sleep(later)
    slow.catch_up()
    doubled = len(places(bench))
    done = bench.load()

    assert (doubled, places(bench)) == (4, ONCE)
    assert "2 tasks had arrived twice" in done.notes[-1]
    assert {bench.task_id("a.json", row) for row in (0, 1)} == set(bench.app.tasks)


def test_of_two_tasks_the_one_that_somebody_works_on_stays(bench, slow):
    bench.load()
    slow.catch_up()
    late = max(bench.app.tasks)
    bench.app.annotate(late, RESULT)
    bench.load()

    assert places(bench) == ONCE
    assert late in bench.app.tasks
    assert late == bench.task_id("a.json", 1)


def test_two_tasks_that_are_both_worked_on_stay_and_are_told(bench, slow):
    bench.load()
    slow.catch_up()
    for number in list(bench.app.tasks):
        bench.app.annotate(number, RESULT)
    done = bench.load()

    assert len(places(bench)) == 4
    assert "a.json has two tasks, " in done.notes[0]


def test_late_import_of_an_object_that_was_replaced_meanwhile_is_not_doubled(bench, slow):
    bench.load()
    bench.put("a.json", [{"text": "new"}, {"text": "1"}])
    bench.load()
    slow.catch_up()
    bench.load()

    assert bench.tasks == {("a.json", 0): {"text": "new"}, ("a.json", 1): {"text": "1"}}


def test_late_import_of_a_replaced_object_stays_where_each_version_has_its_task(bench, slow):
    bench.set(on_change="new_task")
    bench.load()
    bench.put("a.json", [{"text": "new"}])
    bench.load()
    slow.catch_up()
    bench.load()

    texts = sorted(task["data"]["text"] for task in bench.app.tasks.values())
    assert texts == ["0", "1", "new"]


def test_attempt_in_doubt_is_let_go_in_the_end(bench, slow):
    for _ in range(len(RECHECK_SECONDS) + 2):
        bench.load()
        bench.time.sleep(max(RECHECK_SECONDS))

    assert bench.connection_ledger.imports.pending() == []


def test_task_that_a_person_deleted_is_not_made_again_by_the_watch(bench, slow):
    bench.load()
    bench.app.delete_task(bench.task_id("a.json", 0))
    bench.load()

    assert places(bench) == [("a.json", 1)]


def test_late_import_does_not_bring_back_a_task_that_a_person_deleted(bench, slow):
    bench.load()
    bench.app.delete_task(bench.task_id("a.json", 0))
    slow.catch_up()
    bench.load()

    assert places(bench) == [("a.json", 1)]


def test_run_that_was_overtaken_in_mid_import_takes_its_tasks_back(bench):
    """It pauses between its last look at the lease and its import, and wakes an hour later."""
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])

    def pause(project_id, tasks):
        bench.time.sleep(LEASE_SECONDS + 3600)
        bench.load()
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, import_tasks=pause))

    assert places(bench) == ONCE
    assert {bench.task_id("a.json", row) for row in (0, 1)} == set(bench.app.tasks)


def test_run_that_was_overtaken_and_killed_in_mid_import_is_cleaned_up_after(bench):
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

    assert places(bench) == ONCE


def test_run_that_was_overtaken_overwrites_no_task(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "newer"})

    def pause(project_id, ids):
        found = list(bench.app.completions(project_id, ids))
        if bench.time.now < 1_900_000_000:
            bench.time.now = 1_900_000_000
            bench.put("a.json", {"text": "newest"})
            bench.load()
        return iter(found)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, completions=pause))

    assert bench.tasks == {("a.json", 0): {"text": "newest"}}


# -- objects that are gone by then ----------------------------------------------------------------


def test_late_import_of_an_object_that_is_removed_meanwhile_is_undone(bench, slow):
    bench.set(on_delete="delete")
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()
    slow.catch_up()
    bench.load()

    assert places(bench) == []


def test_late_import_of_a_row_that_a_new_version_lacks_is_undone(bench, slow):
    bench.set(on_delete="delete")
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    slow.catch_up()
    bench.load()

    assert places(bench) == [("a.json", 0)]


def test_late_task_of_a_gone_row_that_somebody_works_on_stays(bench, slow):
    bench.set(on_delete="delete")
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    slow.catch_up()
    late = max(bench.app.tasks)
    bench.app.annotate(late, RESULT)
    bench.load()

    assert places(bench) == ONCE
    assert bench.task_id("a.json", 1) == late


def test_late_task_of_a_removed_object_that_keeps_another_one_is_undone(bench, slow):
    bench.set(on_delete="delete")
    bench.load()
    bench.app.annotate(bench.task_id("a.json", 0), RESULT)
    bench.bucket.delete("a.json")
    bench.load()
    slow.catch_up()
    bench.load()

    assert places(bench) == [("a.json", 0)]


@pytest.mark.parametrize(("policy", "left"), [("delete", []), ("keep", ONCE)])
def test_object_that_is_removed_before_anybody_finished_it_is_not_forgotten(
    bench, slow, policy, left
):
    bench.set(on_delete=policy)
    slow.catch_up()
    bench.bucket.delete("a.json")
    done = bench.load()

    assert (places(bench), done.changes[Change.REMOVED]) == (left, 1)


def test_object_with_more_rows_than_a_batch_is_not_forgotten_either(bench, monkeypatch):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 2)
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": str(row)} for row in range(5)])
    slow = Slow(bench.app)

    def one_batch(project_id, tasks):
        if bench.app.tasks:
            slow.import_tasks(project_id, tasks)
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=one_batch))
    bench.bucket.delete("a.json")
    bench.load()

    assert places(bench) == []
