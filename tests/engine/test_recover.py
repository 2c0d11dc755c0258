"""A ledger that is restored from a backup: what was done since is found, and not done again."""

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
def restore(bench, tmp_path):
    """Give a function that makes a backup, and gives one that goes back to it."""
    ledgers = []

    def back_up():
        place = tmp_path / f"backup {len(ledgers)}.db"
        with closing(sqlite3.connect(sa.make_url(bench.url).database)) as db:
            db.execute("VACUUM INTO ?", (str(place),))

        def go_back():
            bench.ledger = Ledger(f"sqlite:///{place}", bench.time, bench.time.sleep)
            bench.connection_ledger = bench.ledger.connection_ledger(bench.name)
            ledgers.append(bench.ledger)

        return go_back

    yield back_up
    for one in ledgers:
        one.close()


def load_of(bench, *keys, text=None):
    for key in keys:
        bench.put(key, {"text": text or key})
    return bench.load()


def listings(bench):
    """Count how often a pass over nothing new lists the tasks of a project."""
    asked = []

    def task_origins_above(project_id, task_id):
        asked.append(task_id)
        return bench.app.task_origins_above(project_id, task_id)

    bench.load(app=Wrapped(bench.app, task_origins_above=task_origins_above))
    return len(asked)


def test_what_was_loaded_since_the_backup_is_not_loaded_again(bench, restore):
    load_of(bench, "a.json")
    go_back = restore()
    load_of(bench, "b.json", "c.json")
    bench.app.annotate(bench.task_id("b.json"), RESULT)
    before = dict(bench.tasks)
    go_back()
    done = bench.load()

    assert (bench.tasks, done.tasks_created) == (before, 0)
    assert done.notes == ["2 tasks of an earlier ledger were recovered."]
    assert bench.load().changes == {Change.UNCHANGED: 3}
    assert bench.export().written == 1


def test_new_task_beside_an_old_one_is_taken_up(bench, restore):
    bench.set(on_change="new_task")
    load_of(bench, "a.json")
    go_back = restore()
    load_of(bench, "a.json", text="new")
    go_back()
    bench.load()

    assert sorted(task["data"]["text"] for task in bench.app.tasks.values()) == ["a.json", "new"]


def test_further_projects_since_the_backup_are_taken_up(bench, restore):
    bench.set(tasks_per_project=2)
    load_of(bench, "a.json")
    go_back = restore()
    load_of(bench, "b.json", "c.json", "d.json", "e.json")
    before = dict(bench.tasks)
    go_back()
    load_of(bench, "f.json")

    assert bench.tasks == {**before, ("f.json", 0): {"text": "f.json"}}
    assert len(bench.app.projects) == 3


def test_pass_killed_while_it_takes_up_takes_up_the_rest(bench, restore):
    load_of(bench, "a.json")
    go_back = restore()
    load_of(bench, "b.json", "c.json")
    before = dict(bench.tasks)
    go_back()

    def kill(*_):
        raise Killed

    with pytest.raises(Killed):
        bench.load(wrap=lambda held: Wrapped(held, projects=Wrapped(held.projects, set_seen=kill)))
    bench.load()

    assert bench.tasks == before


def test_own_imports_are_not_looked_through(bench):
    load_of(bench, "a.json")
    load_of(bench, "b.json")

    assert listings(bench) == 0


def test_tasks_of_others_are_looked_through_once_and_left_alone(bench):
    load_of(bench, "a.json")
    project = next(iter(bench.connection_ledger.projects.ids().values()))
    bench.app.import_tasks(project, [{"data": {"text": "a person's"}, "meta": {}}])
    load_of(bench, "b.json")

    assert [listings(bench), listings(bench)] == [0, 0]
    assert bench.connection_ledger.objects.count_tasks() == 2
