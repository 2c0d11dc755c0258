"""A ledger restored from a backup recovers what was loaded since, and loads none of it again."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from ls_pipeline.domain.diff import Change
from ls_pipeline.resources.ledger.ledger import Ledger
from tests.bench import RESULT
from tests.engine.test_crashes import Killed
from tests.engine.test_load import Wrapped


@pytest.fixture
def back_up(bench, tmp_path):
    """Return a function that makes a backup and returns a function that restores it."""
    ledgers = []

    def make_backup():
        path = tmp_path / f"backup {len(ledgers)}.db"
        with closing(sqlite3.connect(sa.make_url(bench.url).database)) as db:
            db.execute("VACUUM INTO ?", (str(path),))

        def restore():
            bench.ledger = Ledger(f"sqlite:///{path}", bench.time, bench.time.sleep)
            bench.connection_ledger = bench.ledger.connection_ledger(bench.name)
            ledgers.append(bench.ledger)

        return restore

    yield make_backup
    for ledger in ledgers:
        ledger.close()


def put_and_load(bench, *keys, text=None):
    for key in keys:
        bench.put(key, {"text": text or key})
    return bench.load()


def listings(bench):
    """Count how often a run without changes lists the tasks of a project."""
    calls = []

    def task_origins_above(project_id, task_id):
        calls.append(task_id)
        return bench.app.task_origins_above(project_id, task_id)

    bench.load(app=Wrapped(bench.app, task_origins_above=task_origins_above))
    return len(calls)


def test_objects_loaded_since_the_backup_are_not_loaded_again(bench, back_up):
    put_and_load(bench, "a.json")
    restore = back_up()
    put_and_load(bench, "b.json", "c.json")
    bench.app.annotate(bench.task_id("b.json"), RESULT)
    before = dict(bench.tasks)
    restore()
    result = bench.load()

    assert (bench.tasks, result.tasks_created) == (before, 0)
    assert result.notes == ["2 tasks of an earlier ledger were recovered."]
    assert bench.load().changes == {Change.UNCHANGED: 3}
    assert bench.export().written == 1


def test_new_task_of_a_replaced_object_is_recovered(bench, back_up):
    bench.set(on_change="new_task")
    put_and_load(bench, "a.json")
    restore = back_up()
    put_and_load(bench, "a.json", text="new")
    restore()
    bench.load()

    assert sorted(task["data"]["text"] for task in bench.app.tasks.values()) == ["a.json", "new"]


def test_overflow_projects_since_the_backup_are_recovered(bench, back_up):
    bench.set(tasks_per_project=2)
    put_and_load(bench, "a.json")
    restore = back_up()
    put_and_load(bench, "b.json", "c.json", "d.json", "e.json")
    before = dict(bench.tasks)
    restore()
    put_and_load(bench, "f.json")

    assert bench.tasks == {**before, ("f.json", 0): {"text": "f.json"}}
    assert len(bench.app.projects) == 3


def test_killed_recovery_is_finished_by_the_next_run(bench, back_up):
    put_and_load(bench, "a.json")
    restore = back_up()
    put_and_load(bench, "b.json", "c.json")
    before = dict(bench.tasks)
    restore()

    def kill(*_):
        raise Killed

    with pytest.raises(Killed):
        bench.load(
            wrap=lambda held: Wrapped(held, binding=Wrapped(held.binding, verify_tasks=kill))
        )
    bench.load()

    assert bench.tasks == before


def test_own_imports_are_not_searched(bench):
    put_and_load(bench, "a.json")
    put_and_load(bench, "b.json")

    assert listings(bench) == 0


def test_foreign_tasks_are_searched_once_and_left_alone(bench):
    put_and_load(bench, "a.json")
    project = next(iter(bench.connection_ledger.projects.ids().values()))
    bench.app.import_tasks(project, [{"data": {"text": "a person's"}, "meta": {}}])
    put_and_load(bench, "b.json")

    assert [listings(bench), listings(bench)] == [0, 0]
    assert bench.connection_ledger.objects.count_tasks() == 2
