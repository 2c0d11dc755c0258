"""A connection whose project is full goes on in a further one; all of them are read as one."""

import json
from collections import Counter

import pytest

from ls_pipeline.assets.metadata import project_links
from ls_pipeline.domain.errors import (
    LabelStudioUnavailableError,
    LeaseLostError,
    ProjectNotFoundError,
)
from ls_pipeline.domain.snapshot.manifest import Latest
from ls_pipeline.engine import import_queue
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT, Bench
from tests.engine.test_crashes import Doom, Killed
from tests.engine.test_load import Wrapped


@pytest.fixture
def bench(bench):
    bench.set(tasks_per_project=3)
    return bench


def fill(bench, rows=7, key="a.json"):
    bench.put(key, [{"text": str(row)} for row in range(rows)])
    return bench.load()


def sizes(bench):
    """Give title → tasks of every project in Label Studio."""
    counted = Counter(task["project"] for task in bench.app.tasks.values())
    return {title: counted[number] for number, (title, _) in bench.app.projects.items()}


# -- where tasks go -------------------------------------------------------------------------


def test_full_project_is_followed_by_further_ones(bench):
    done = fill(bench)

    assert (len(bench.tasks), done.tasks_created) == (7, 7)
    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 3, "Reviews (3)": 1}


def test_without_a_size_no_project_is_ever_full(bench):
    bench.set()
    fill(bench)

    assert sizes(bench) == {"Reviews": 7}


def test_pass_says_where_new_tasks_go(bench):
    notes = fill(bench, 4).notes

    assert notes == [
        "Project 'Reviews' has 3 tasks, and is full; new ones go to 'Reviews (2)', memory:2."
    ]


def test_further_project_has_the_label_config_as_it_is_by_then(bench):
    fill(bench, 3)
    edited = CONFIG.replace('"A"', '"Edited"')
    bench.app.projects[1] = ("Reviews", edited)
    fill(bench, 4)

    assert bench.app.projects[2] == ("Reviews (2)", edited)


def test_object_that_is_spread_over_projects_is_loaded_once(bench):
    fill(bench, 4)
    again = bench.load()

    assert (again.tasks_created, len(bench.tasks)) == (0, 4)


def test_task_that_is_deleted_makes_room_in_the_newest(bench):
    fill(bench, 6)
    bench.app.delete_task(bench.task_id("a.json", 5))
    fill(bench, 1, "b.json")

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 3}


def test_tasks_that_people_made_take_room(bench):
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
def test_another_size_holds_from_the_next_pass(bench, size, expected):
    fill(bench, 4)
    bench.set(tasks_per_project=size)
    fill(bench, 2, "b.json")

    assert sizes(bench) == expected


def test_batches_are_cut_at_the_size(bench, monkeypatch):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 2)
    batches = []

    def count(project_id, tasks):
        batches.append((project_id, len(tasks)))
        return bench.app.import_tasks(project_id, tasks)

    bench.put("a.json", [{"text": str(row)} for row in range(7)])
    bench.load(app=Wrapped(bench.app, import_tasks=count))

    assert batches == [(1, 2), (1, 1), (2, 1), (2, 2), (3, 1)]


def test_annotators_can_open_the_bucket_in_each(bench):
    fill(bench)
    bench.set(tasks_per_project=3, region_name="eu-west-3")
    bench.load()

    assert bench.app.storages == {
        (number, "s3", "bucket"): ("", "eu-west-3") for number in (1, 2, 3)
    }


def test_further_project_that_is_renamed_stays_the_connections(bench):
    fill(bench, 4)
    bench.app.projects[2] = ("Renamed by hand", CONFIG)
    fill(bench, 7)

    assert sizes(bench) == {"Reviews": 3, "Renamed by hand": 3, "Reviews (3)": 1}


def test_long_title_is_cut_so_that_its_number_fits(bench):
    one = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"project": "x" * 50}
    )

    assert [one.title(number) for number in (1, 2, 10)] == [
        "x" * 50,
        "x" * 46 + " (2)",
        "x" * 45 + " (10)",
    ]


# -- whose a project is -----------------------------------------------------------------------


def foreign_task(bench, title):
    project = bench.app.find_or_create_project(title, CONFIG)
    bench.app.import_tasks(project.id, [{"data": {"text": "not ours"}}])


@pytest.mark.parametrize(
    "make",
    [
        lambda bench: foreign_task(bench, "Reviews (2)"),
        lambda bench: bench.app.find_or_create_project("Reviews (2)", "<View/>"),
    ],
    ids=["with tasks of its own", "to label otherwise"],
)
def test_project_of_that_title_that_is_somebody_elses_is_passed_over(bench, make):
    make(bench)
    before = sizes(bench)["Reviews (2)"]
    fill(bench)

    assert sizes(bench) == {"Reviews (2)": before, "Reviews": 3, "Reviews (3)": 3, "Reviews (4)": 1}


def test_two_connections_on_one_project_have_further_ones_of_their_own(bench):
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


def test_project_that_was_made_by_a_pass_that_was_killed_then_is_taken_up(bench):
    fill(bench, 3)

    def kill(*_):
        raise Killed

    bench.put("b.json", {"text": "b"})
    with pytest.raises(Killed):
        bench.load(wrap=lambda held: Wrapped(held, projects=Wrapped(held.projects, add=kill)))
    made = sizes(bench)
    bench.load()

    assert made == {"Reviews": 3, "Reviews (2)": 0}
    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}


def test_lost_ledger_takes_up_the_tasks_of_all_projects(bench, tmp_path):
    fill(bench)
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db", tasks_per_project=3)
    fresh.bucket, fresh.app = bench.bucket, bench.app
    done = fresh.load()
    fill(fresh, 9)

    assert done.notes == ["7 tasks of an earlier ledger were recovered."]
    assert sizes(fresh) == {"Reviews": 3, "Reviews (2)": 3, "Reviews (3)": 3}
    assert len(fresh.tasks) == 9


def test_lost_ledger_takes_up_no_project_that_is_somebody_elses(bench, tmp_path):
    fill(bench, 3)
    foreign_task(bench, "Reviews (2)")
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db", tasks_per_project=3)
    fresh.bucket, fresh.app = bench.bucket, bench.app
    fresh.load()

    assert list(fresh.connection_ledger.projects.ids()) == [1]


@pytest.mark.slow
def test_lost_ledger_is_rebuilt_though_killed_anywhere_in_it(bench, tmp_path):
    fill(bench)
    at, over = 0, False
    while not over:
        at += 3
        fresh = Bench(f"sqlite:///{tmp_path}/fresh-{at}.db", tasks_per_project=3)
        fresh.bucket, fresh.app = bench.bucket, bench.app
        doom = Doom(at)
        try:
            fresh.load(doom.over(fresh.bucket), app=doom.over(fresh.app), wrap=doom.over)
            over = True
        except Killed:
            fresh.load()
        assert (len(fresh.tasks), len(fresh.app.projects)) == (7, 3), f"killed at call {at}"
        fresh.ledger.close()

    assert at > 20


# -- what is in them --------------------------------------------------------------------------


def label(bench, *rows):
    for row in rows:
        bench.app.annotate(bench.task_id("a.json", row), RESULT)


def documents(bench):
    found = bench.target.objects.items()
    return {key: json.loads(body) for key, body in found if "/" not in key}


def test_completions_of_all_projects_are_exported(bench):
    fill(bench)
    label(bench, 0, 4, 6)
    bench.export()
    again = bench.export(target=Wrapped(bench.target, put=None))

    files = {f"{bench.task_id('a.json', row)}.json" for row in (0, 4, 6)}
    assert (set(documents(bench)), again.selected) == (files, 0)


def test_task_deleted_in_an_earlier_project_becomes_a_tombstone(bench):
    fill(bench)
    label(bench, 0, 6)
    bench.export()
    number = bench.task_id("a.json", 0)
    bench.app.delete_task(number)
    done = bench.export()

    assert (done.deleted, documents(bench)[f"{number}.json"]["deleted"]) == (1, True)


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


def test_tasks_of_all_projects_are_read_in_the_order_of_their_ids(bench):
    fill(bench)
    ids = sorted(bench.app.tasks)
    read = Projects(bench.connection_ledger, bench.app).completions(ids[::-1])

    assert [one.task_id for one in read] == ids


def test_where_the_last_task_was_found_is_looked_first(bench):
    fill(bench)
    asked = []

    def ask(project_id, ids):
        asked.append(project_id)
        return bench.app.completions(project_id, ids)

    projects = Projects(bench.connection_ledger, Wrapped(bench.app, completions=ask))
    for number in sorted(bench.app.tasks):
        projects.completions([number])

    assert asked == [1, 1, 1, 1, 2, 2, 2, 2, 1, 3]


def test_replaced_object_updates_its_tasks_in_all_projects(bench):
    fill(bench)
    numbers = {row: bench.task_id("a.json", row) for row in range(7)}
    bench.put("a.json", [{"text": f"new {row}"} for row in range(7)])
    done = bench.load()

    assert (done.tasks_updated, done.tasks_created) == (7, 0)
    assert {row: bench.task_id("a.json", row) for row in range(7)} == numbers


def test_labeled_task_in_an_earlier_project_is_never_overwritten_or_deleted(bench):
    bench.set(tasks_per_project=3, on_delete="delete")
    fill(bench)
    label(bench, 0)
    bench.put("a.json", [{"text": "new"}])
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert bench.tasks == {("a.json", 0): {"text": "0"}}


# -- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_deleted_project_fails_each_pass_and_touches_nothing(bench, number):
    fill(bench)
    label(bench, *range(7))
    bench.export()
    bench.snapshot()
    files, tasks = dict(bench.target.objects), dict(bench.app.tasks)
    del bench.app.projects[number]
    bench.put("b.json", {"text": "b"})

    for go in (bench.load, bench.export, bench.snapshot):
        with pytest.raises(ProjectNotFoundError, match=f"project {number}"):
            go()
    assert (bench.target.objects, bench.app.tasks) == (files, tasks)


def test_runs_that_both_begin_a_further_project_make_one(bench):
    fill(bench, 3)
    bench.put("b.json", {"text": "b"})

    def pause(project_id, title):
        bench.time.sleep(LEASE_SECONDS + 1)
        bench.load()
        return bench.app.find_or_create_project_like(project_id, title)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, find_or_create_project_like=pause))

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}
    assert len(bench.tasks) == 4


def test_run_that_was_overtaken_takes_back_what_another_put_into_a_further_project(bench):
    """The one that overtook it fills the project with other tasks first, and goes on in the next"""
    fill(bench, 2)
    bench.put("b.json", {"text": "b"})

    def pause(project_id, tasks):
        bench.time.sleep(LEASE_SECONDS + 3600)
        bench.app.import_tasks(1, [{"data": {"text": "by hand"}}])
        bench.load()
        return bench.app.import_tasks(project_id, tasks)

    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, import_tasks=pause))

    assert sizes(bench) == {"Reviews": 3, "Reviews (2)": 1}
    assert bench.task_id("b.json") in bench.app.tasks


@pytest.mark.parametrize("worked_on", [False, True])
def test_late_import_into_a_project_that_is_full_by_then_is_not_doubled(bench, worked_on):
    fill(bench, 2)
    bench.put("b.json", {"text": "b"})
    late = []

    def lose(*how):
        late.append(how)
        raise LabelStudioUnavailableError("no reply")

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=lose))
    bench.app.import_tasks(1, [{"data": {"text": "by hand"}}])
    bench.load()
    (arrived,) = bench.app.import_tasks(*late[0])
    if worked_on:
        bench.app.annotate(arrived, RESULT)
    bench.load()

    expected = {"Reviews": 4, "Reviews (2)": 0} if worked_on else {"Reviews": 3, "Reviews (2)": 1}
    assert sizes(bench) == expected
    assert bench.task_id("b.json") in bench.app.tasks


# -- where people see them --------------------------------------------------------------------


def test_links_lead_to_the_newest_and_of_several_to_all(bench):
    fill(bench, 4)
    first, newest = Projects(bench.connection_ledger, bench.app).all()
    links = project_links([first, newest])

    assert (links["project"].url, project_links([first]).keys()) == ("memory:2", {"project"})
    assert links["projects"].md_str == (
        "- [Reviews (2)](memory:2): 1 tasks\n- [Reviews](memory:1): 3 tasks"
    )
