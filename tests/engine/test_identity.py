"""A run changes nothing if Label Studio or the target is another than the ledger knows."""

import copy
import json
import shutil

import pytest
import sqlalchemy as sa

from ls_pipeline.domain.errors import IdentityError, LabelStudioUnavailableError
from ls_pipeline.resources.ledger.ledger import Ledger
from tests.bench import RESULT, Bench
from tests.contracts.memory_labeling_app import MemoryLabelingApp
from tests.engine.test_crashes import Killed
from tests.engine.test_load import Wrapped

MARK = "training_data/mark.json"
RUNS = ("load", "export", "snapshot")


@pytest.fixture
def labeled(bench):
    """Return a bench with three tasks; two are labeled and exported."""
    bench.fill("abc", labeled="ab")
    bench.export()
    bench.snapshot()
    return bench


def world(bench):
    return repr((bench.app.__dict__, bench.target.objects))


def assert_each_run_stops(bench, match):
    before = world(bench)
    for run in RUNS:
        with pytest.raises(IdentityError, match=match):
            getattr(bench, run)()
    assert world(bench) == before


def restart_app(bench, state):
    bench.app.__dict__.clear()
    bench.app.__dict__.update(copy.deepcopy(state))


def test_another_project_under_the_same_id_stops_each_run(labeled):
    labeled.app = MemoryLabelingApp()
    labeled.app.create_project("Reviews", "<View></View>")

    assert_each_run_stops(labeled, "is another one by now")


def test_deleted_project_stops_each_run(labeled):
    labeled.app.projects.clear()

    assert_each_run_stops(labeled, "does not exist any more")


def test_label_studio_restored_from_a_backup_stops_each_run(labeled):
    state = copy.deepcopy(labeled.app.__dict__)
    labeled.put("d.json", {"text": "d"})
    labeled.load()
    restart_app(labeled, state)

    assert_each_run_stops(labeled, "restored from a backup")


def test_labels_that_were_exported_since_the_backup_are_not_emptied(labeled):
    state = copy.deepcopy(labeled.app.__dict__)
    labeled.app.annotate(labeled.task_id("c.json"), RESULT)
    labeled.export()
    restart_app(labeled, state)

    assert_each_run_stops(labeled, "restored from a backup")


def test_removed_mark_stops_each_run(labeled):
    labeled.app.remove_mark(labeled.app.marks()[0])

    assert_each_run_stops(labeled, "lost its mark")


def test_mark_of_another_installation_in_the_target_stops_exports(labeled):
    body = {"ledger": "f" * 32, "generations": {}}
    labeled.target.put(MARK, json.dumps(body).encode(), "application/json")
    before = world(labeled)
    for run in ("export", "snapshot"):
        with pytest.raises(IdentityError, match="another installation writes there"):
            getattr(labeled, run)()

    assert world(labeled) == before


def test_second_installation_with_the_same_project_stops(labeled, tmp_path):
    first = labeled.ledger, labeled.connection_ledger
    labeled.replace_ledger(f"sqlite:///{tmp_path}/second.db")
    assert_each_run_stops(labeled, "another installation")
    labeled.ledger.close()
    labeled.ledger, labeled.connection_ledger = first
    labeled.put("d.json", {"text": "d"})

    assert labeled.load().tasks_created == 1


def test_two_new_installations_at_the_same_moment_do_not_share_a_project(bench, tmp_path):
    other = Bench(f"sqlite:///{tmp_path}/second.db")
    other.app, other.bucket = bench.app, bench.bucket
    bench.put("a.json", {"text": "a"})

    def add_mark(*arguments):
        if not bench.app.marks():
            bench.app.add_mark(1, other.connection_ledger.ledger_id, "reviews", 0)
        return bench.app.add_mark(*arguments)

    with pytest.raises(IdentityError):
        bench.load(app=Wrapped(bench.app, add_mark=add_mark))
    other.load()
    other.ledger.close()

    assert len(bench.app.tasks) == 1


def test_installation_that_was_taken_over_stops_in_mid_run(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.put("a.json", {"text": "new"})

    def take_over(mark, generation):
        for each in bench.app.marks():
            bench.app.remove_mark(each)
        bench.app.add_mark(1, "f" * 32, "reviews", 0)
        return bench.app.raise_mark(mark, generation)

    bench.put("b.json", {"text": "b"})
    with pytest.raises(IdentityError):
        bench.load(app=Wrapped(bench.app, raise_mark=take_over))

    assert len(bench.app.tasks) == 1


def test_run_killed_between_the_ledger_and_the_mark_is_no_restore(labeled):
    labeled.put("d.json", {"text": "d"})

    def kill(*_):
        raise Killed

    with pytest.raises(Killed):
        labeled.load(app=Wrapped(labeled.app, add_mark=kill))

    assert labeled.load().tasks_created == 1


def test_mark_that_lands_late_is_no_restore(labeled):
    late = []

    def lose(*arguments):
        late.append(arguments)
        raise LabelStudioUnavailableError("no answer")

    labeled.put("d.json", {"text": "d"})
    with pytest.raises(LabelStudioUnavailableError):
        labeled.load(app=Wrapped(labeled.app, add_mark=lose))
    labeled.load()
    labeled.app.add_mark(*late[0])
    labeled.put("e.json", {"text": "e"})

    assert labeled.load().tasks_created == 1
    assert labeled.load().tasks_created == 0


def calls_of_load(bench):
    """Load, and return the names of the calls to Label Studio."""
    calls = []

    def counted(name):
        def call(*arguments, **options):
            calls.append(name)
            return getattr(bench.app, name)(*arguments, **options)

        return call

    names = [name for name in dir(MemoryLabelingApp) if not name.startswith("_")]
    methods = [name for name in names if callable(getattr(MemoryLabelingApp, name))]
    bench.load(app=Wrapped(bench.app, **{name: counted(name) for name in methods}))
    return calls


def test_run_without_changes_asks_for_projects_and_marks_once(labeled):
    assert calls_of_load(labeled) == ["existing_projects", "marks", "register_storage"]


def test_first_load_asks_for_nothing_twice(bench):
    bench.put("a.json", {"text": "a"})

    assert calls_of_load(bench) == [
        *("projects_with_prefix", "create_project", "register_storage"),
        *("add_mark", "marks"),  # two installations may claim the project at the same moment
        "import_tasks",
    ]


def test_changing_run_leaves_one_mark_with_the_generation_of_the_ledger(labeled):
    for key in "de":
        labeled.put(f"{key}.json", {"text": key})
        labeled.load()
    (mark,) = labeled.app.marks()

    assert mark.generation == labeled.connection_ledger.binding.state().generation


# -- a target that is another one ---------------------------------------------------------------


def test_emptied_target_gets_all_completions_again(labeled):
    labeled.target.objects.clear()
    result = labeled.export()

    assert (result.written, MARK in labeled.target.objects) == (2, True)


def test_target_restored_from_a_backup_gets_what_it_lacks(labeled):
    backup = dict(labeled.target.objects)
    labeled.app.annotate(labeled.task_id("c.json"), RESULT)
    labeled.export()
    labeled.target.objects = backup
    labeled.export()

    assert f"{labeled.task_id('c.json')}.json" in labeled.target.objects


def test_restored_ledger_buries_files_of_tasks_that_it_never_knew(labeled, tmp_path):
    backup = tmp_path / "backup.db"
    with labeled.ledger.database.engine.connect() as db:
        db.exec_driver_sql(f"VACUUM INTO '{backup}'")
    task_id = labeled.task_id("c.json")
    labeled.app.annotate(task_id, RESULT)
    labeled.export()
    labeled.app.delete_task(task_id)
    shutil.copy(backup, tmp_path / "restored.db")
    labeled.ledger = Ledger(f"sqlite:///{tmp_path}/restored.db", labeled.time, labeled.time.sleep)
    labeled.connection_ledger = labeled.ledger.connection_ledger(labeled.name)
    labeled.export()
    labeled.ledger.close()

    assert json.loads(labeled.target.objects[f"{task_id}.json"])["deleted"]


def test_ledger_id_is_that_of_its_backup(labeled, tmp_path):
    backup = tmp_path / "backup.db"
    with labeled.ledger.database.engine.connect() as db:
        db.execute(sa.text(f"VACUUM INTO '{backup}'"))
    copied = Ledger(f"sqlite:///{backup}")

    assert copied.connection_ledger(labeled.name).ledger_id == labeled.connection_ledger.ledger_id
    copied.close()


@pytest.mark.parametrize("decided", ["by the ledger", "by a person"])
def test_label_studio_restored_after_another_restore_stops_each_run(labeled, tmp_path, decided):
    backup = tmp_path / "backup.db"
    with labeled.ledger.database.engine.connect() as db:
        db.exec_driver_sql(f"VACUUM INTO '{backup}'")
    state = copy.deepcopy(labeled.app.__dict__)
    labeled.put("d.json", {"text": "d"})
    labeled.load()
    if decided == "by a person":
        labeled.app.remove_mark(labeled.app.marks()[0])
        labeled.rebind("forget")
    else:
        labeled.ledger = Ledger(f"sqlite:///{backup}", labeled.time, labeled.time.sleep)
        labeled.connection_ledger = labeled.ledger.connection_ledger(labeled.name)
        with labeled.run(labeled.bucket) as run:
            run.projects.find()
    restart_app(labeled, state)

    assert_each_run_stops(labeled, "restored from a backup")
    labeled.ledger.close()
