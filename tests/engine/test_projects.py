"""A connection whose project is full continues in an overflow project; all count as one project."""

import json
from collections import Counter

import pytest

from ls_pipeline.assets.metadata import project_links
from ls_pipeline.domain.errors import (
    IdentityError,
    LabelStudioUnavailableError,
    LeaseLostError,
)
from ls_pipeline.domain.snapshot.manifest import Latest
from ls_pipeline.engine import import_queue
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT, Bench
from tests.engine.test_crashes import Killed, Killer
from tests.engine.test_load import Wrapped


@pytest.fixture
def bench(bench):
    bench.set(tasks_per_project=3)
    return bench


def fill(bench, rows=7, key="a.json"):
    bench.put(key, [{"text": str(row)} for row in range(rows)])
    return bench.load()


def sizes(bench):
    """Return title → number of tasks of every project in Label Studio."""
    counts = Counter(task["project"] for task in bench.app.tasks.values())
    return {title: counts[project_id] for project_id, (title, _) in bench.app.projects.items()}


# -- where tasks go -------------------------------------------------------------------------


def test_full_project_is_followed_by_overflow_projects(bench):
    result = fill(bench)

    assert (len(bench.tasks), result.tasks_created) == (7, 7)
    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 3, "Reviews (3)": 1}


def test_project_without_a_size_is_never_full(bench):
    bench.set()
    fill(bench)

    assert sizes(bench) == {"Reviews": 7}


def test_run_notes_where_new_tasks_go(bench):
    notes = fill(bench, 4).notes

    assert notes == [
        "Project 'Reviews' has 3 tasks, and is full; new ones go to 'Reviews (2)', memory:2."
    ]


def test_overflow_project_gets_the_current_label_config(bench):
    fill(bench, 3)
    edited = CONFIG.replace('"A"', '"Edited"')
    bench.app.projects[1] = ("Reviews", edited)
    fill(bench, 4)

    assert bench.app.projects[2] == ("Reviews (2)", edited)


def test_object_spread_over_projects_is_loaded_once(bench):
    fill(bench, 4)
    second = bench.load()

    assert (second.tasks_created, len(bench.tasks)) == (0, 4)


def test_deleted_task_makes_room_in_the_newest_project(bench):
    fill(bench, 6)
    bench.app.delete_task(bench.task_id("a.json", 5))
    fill(bench, 1, "b.json")

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 3}


def test_tasks_made_by_hand_take_room(bench):
    fill(bench, 1)
    bench.app.import_tasks(1, [{"data": {"text": "by hand"}}] * 4)
    fill(bench, 2)

    assert sizes(bench) == {"Reviews": 5, "Reviews (2)": 1}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, {"Reviews": 3, "Reviews (2)": 1, "Reviews (3)": 1, "Reviews (4)": 1}),
        (2, {"Reviews": 3, "Reviews (2)": 2, "Reviews (3)": 1}),
        (9, {"Reviews": 3, "Reviews (2)": 3}),
        (0, {"Reviews": 3, "Reviews (2)": 3}),
    ],
)
def test_new_size_applies_from_the_next_run(bench, size, expected):
    fill(bench, 4)
    bench.set(tasks_per_project=size)
    fill(bench, 2, "b.json")

    assert sizes(bench) == expected


def test_batches_end_where_a_project_is_full(bench, monkeypatch):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 2)
    batches = []

    def count(project_id, tasks):
        batches.append((project_id, len(tasks)))
        return bench.app.import_tasks(project_id, tasks)

    bench.put("a.json", [{"text": str(row)} for row in range(7)])
    bench.load(app=Wrapped(bench.app, import_tasks=count))

    assert batches == [(1, 2), (1, 1), (2, 1), (2, 2), (3, 1)]


def test_annotators_can_open_the_bucket_in_each_project(bench):
    fill(bench)
    bench.set(tasks_per_project=3, region_name="eu-west-3")
    bench.load()

    assert bench.app.storages == {
        (project_id, "s3", "bucket"): ("", "eu-west-3") for project_id in (1, 2, 3)
    }


def test_renamed_overflow_project_still_belongs_to_its_connection(bench):
    fill(bench, 4)
    bench.app.projects[2] = ("Renamed by hand", CONFIG)
    fill(bench, 7)

    assert sizes(bench) == {"Reviews": 3, "Renamed by hand": 3, "Reviews (3)": 1}


def test_long_title_is_shortened_to_fit_its_number(bench):
    connection = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"project": "x" * 50}
    )

    assert [connection.title(number) for number in (1, 2, 10)] == [
        "x" * 50,
        "x" * 46 + " (2)",
        "x" * 45 + " (10)",
    ]


# -- which projects are a connection's ---------------------------------------------------------


def foreign_task(bench, title):
    project = bench.app.create_project(title, CONFIG)
    bench.app.import_tasks(project.id, [{"data": {"text": "foreign"}}])


@pytest.mark.parametrize(
    "make",
    [
        lambda bench: foreign_task(bench, "Reviews (2)"),
        lambda bench: bench.app.create_project("Reviews (2)", "<View/>"),
    ],
    ids=["with foreign tasks", "with another label config"],
)
def test_foreign_project_with_the_same_title_is_skipped(bench, make):
    make(bench)
    before = sizes(bench)["Reviews (2)"]
    fill(bench)

    assert sizes(bench) == {"Reviews (2)": before, "Reviews": 3, "Reviews (3)": 3, "Reviews (4)": 1}


def test_connections_sharing_a_project_have_separate_overflow_projects(bench):
    other = build_connection(
        "other",
        source={"type": "s3", "path": "bucket", "params": {"tasks_per_project": 3}},
        target=None,
        project="Reviews",
        label_config=CONFIG,
    )
    bench.ledger.save(other, "test")
    fill(bench, 4)
    bench.load(connection_ledger=bench.ledger.connection_ledger("other"))

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1, "Reviews (3)": 3, "Reviews (4)": 1}


def test_project_created_by_a_killed_run_is_recovered(bench):
    fill(bench, 3)

    def kill(*_):
        raise Killed

    bench.put("b.json", {"text": "b"})
    with pytest.raises(Killed):
        bench.load(wrap=lambda held: Wrapped(held, projects=Wrapped(held.projects, add=kill)))
    after_kill = sizes(bench)
    bench.load()

    assert after_kill == {"Reviews": 3, "Reviews (2)": 0}
    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}


def test_lost_ledger_recovers_the_tasks_of_all_projects(bench, tmp_path):
    fill(bench)
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db", tasks_per_project=3)
    fresh.bucket, fresh.app = bench.bucket, bench.app
    fresh.rebind("take-over")
    result = fresh.load()
    fill(fresh, 9)

    assert result.notes == ["7 tasks of an earlier ledger were recovered."]
    assert sizes(fresh) == {"Reviews": 3, "Reviews (2)": 3, "Reviews (3)": 3}
    assert len(fresh.tasks) == 9


def test_lost_ledger_recovers_no_foreign_project(bench, tmp_path):
    fill(bench, 3)
    foreign_task(bench, "Reviews (2)")
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db", tasks_per_project=3)
    fresh.bucket, fresh.app = bench.bucket, bench.app
    fresh.rebind("take-over")
    fresh.load()

    assert list(fresh.connection_ledger.projects.ids()) == [1]


@pytest.mark.slow
def test_lost_ledger_is_rebuilt_though_killed_at_any_call(bench, tmp_path):
    fill(bench)
    at, survived = 0, False
    while not survived:
        at += 3
        fresh = Bench(f"sqlite:///{tmp_path}/fresh-{at}.db", tasks_per_project=3)
        fresh.bucket, fresh.app = bench.bucket, bench.app
        fresh.rebind("take-over")
        killer = Killer(at)
        try:
            fresh.load(killer.wrap(fresh.bucket), app=killer.wrap(fresh.app), wrap=killer.wrap)
            survived = True
        except Killed:
            fresh.load()
        assert (len(fresh.tasks), len(fresh.app.projects)) == (7, 3), f"killed at call {at}"
        fresh.ledger.close()

    assert at > 20


# -- exports and snapshots --------------------------------------------------------------------


def label(bench, *rows):
    for row in rows:
        bench.app.annotate(bench.task_id("a.json", row), RESULT)


def documents(bench):
    objects = bench.target.objects.items()
    return {key: json.loads(body) for key, body in objects if "/" not in key}


def test_completions_of_all_projects_are_exported(bench):
    fill(bench)
    label(bench, 0, 4, 6)
    bench.export()
    second = bench.export(target=Wrapped(bench.target, put=None))

    files = {f"{bench.task_id('a.json', row)}.json" for row in (0, 4, 6)}
    assert (set(documents(bench)), second.selected) == (files, 0)


def test_task_deleted_in_an_earlier_project_becomes_a_tombstone(bench):
    fill(bench)
    label(bench, 0, 6)
    bench.export()
    task_id = bench.task_id("a.json", 0)
    bench.app.delete_task(task_id)
    result = bench.export()

    assert (result.deleted, documents(bench)[f"{task_id}.json"]["deleted"]) == (1, True)


def test_snapshot_holds_the_completions_of_all_projects(bench):
    fill(bench)
    label(bench, *range(7))
    bench.export()
    first = bench.snapshot()
    label(bench, 1)
    bench.export()
    second = bench.snapshot()

    assert (first.failed, first.newest.rows["tasks"]) == ({}, 7)
    assert (second.newest.rows["annotations"], second.newest.changes.changed) == (8, 1)


def test_snapshot_names_the_newest_project(bench):
    fill(bench)
    bench.export()
    bench.snapshot()
    latest = Latest.model_validate_json(bench.target.get("training_data/latest.json"))

    assert Snapshots(bench.target, "").manifest(latest.snapshot).project == 3


def test_tasks_of_all_projects_are_read_by_id(bench):
    fill(bench)
    ids = sorted(bench.app.tasks)
    completions = Projects(bench.connection_ledger, bench.app).completions(ids[::-1])

    assert [completion.task_id for completion in completions] == ids


def test_project_of_the_last_task_is_searched_first(bench):
    fill(bench)
    searched = []

    def search(project_id, ids):
        searched.append(project_id)
        return bench.app.completions(project_id, ids)

    projects = Projects(bench.connection_ledger, Wrapped(bench.app, completions=search))
    for task_id in sorted(bench.app.tasks):
        projects.completions([task_id])

    assert searched == [1, 1, 1, 1, 2, 2, 2, 2, 1, 3]


def test_replaced_object_updates_its_tasks_in_all_projects(bench):
    fill(bench)
    task_ids = {row: bench.task_id("a.json", row) for row in range(7)}
    bench.put("a.json", [{"text": f"new {row}"} for row in range(7)])
    result = bench.load()

    assert (result.tasks_updated, result.tasks_created) == (7, 0)
    assert {row: bench.task_id("a.json", row) for row in range(7)} == task_ids


def test_labeled_task_in_an_earlier_project_stays_unchanged(bench):
    bench.set(tasks_per_project=3, on_delete="delete")
    fill(bench)
    label(bench, 0)
    bench.put("a.json", [{"text": "new"}])
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert bench.tasks == {("a.json", 0): {"text": "0"}}


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("project_id", [1, 2, 3])
def test_deleted_project_fails_each_run_and_changes_nothing(bench, project_id):
    fill(bench)
    label(bench, *range(7))
    bench.export()
    bench.snapshot()
    files, tasks = dict(bench.target.objects), dict(bench.app.tasks)
    del bench.app.projects[project_id]
    bench.put("b.json", {"text": "b"})

    for run in (bench.load, bench.export, bench.snapshot):
        with pytest.raises(IdentityError, match=f"project {project_id}"):
            run()
    assert (bench.target.objects, bench.app.tasks) == (files, tasks)


def test_two_runs_create_one_overflow_project(bench):
    fill(bench, 3)
    bench.put("b.json", {"text": "b"})

    def pause(project_id, title):
        bench.time.sleep(LEASE_SECONDS + 1)
        bench.load()
        return bench.app.create_project_like(project_id, title)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, create_project_like=pause))

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}
    assert len(bench.tasks) == 4


def test_run_overtaken_by_one_that_begins_a_project_stops(bench):
    fill(bench, 3)
    bench.put("b.json", {"text": "b"})

    def pause(project_id):
        marks = bench.app.marks(project_id)
        bench.time.sleep(LEASE_SECONDS + 1)
        bench.load()
        return marks

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, marks=pause))

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}


def test_overtaken_run_removes_duplicates_of_overflow_tasks(bench):
    """The overtaking run finds the project full, and loads into an overflow project."""
    fill(bench, 2)
    bench.put("b.json", {"text": "b"})

    def pause(project_id, tasks):
        bench.time.sleep(LEASE_SECONDS + 3600)
        bench.app.import_tasks(1, [{"data": {"text": "by hand"}}])
        bench.load()
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, import_tasks=pause))
    bench.load()

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}
    assert bench.task_id("b.json") in bench.app.tasks


@pytest.mark.parametrize("worked_on", [False, True])
def test_late_import_into_a_full_project_leaves_no_duplicate(bench, worked_on):
    fill(bench, 2)
    bench.put("b.json", {"text": "b"})
    late = []

    def lose(*arguments):
        late.append(arguments)
        raise LabelStudioUnavailableError("no reply")

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=lose))
    bench.app.import_tasks(1, [{"data": {"text": "by hand"}}])
    bench.load()
    (late_task,) = bench.app.import_tasks(*late[0])
    if worked_on:
        bench.app.annotate(late_task, RESULT)
    bench.load()

    expected = {"Reviews": 4, "Reviews (2)": 0} if worked_on else {"Reviews": 3, "Reviews (2)": 1}
    assert sizes(bench) == expected
    assert bench.task_id("b.json") in bench.app.tasks


# -- links ------------------------------------------------------------------------------------


def test_links_lead_to_the_newest_and_all_projects(bench):
    fill(bench, 4)
    first, newest = Projects(bench.connection_ledger, bench.app).all()
    links = project_links([first, newest])

    assert (links["project"].url, project_links([first]).keys()) == ("memory:2", {"project"})
    assert links["projects"].md_str == (
        "- [`Reviews (2)`](memory:2): 1 tasks\n- [`Reviews`](memory:1): 3 tasks"
    )
