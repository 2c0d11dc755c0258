"""A connection is bound again, on purpose, to what Label Studio and the target are by now."""

import copy
import json
import shutil

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import (
    BucketUnavailableError,
    IdentityError,
    LabelStudioUnavailableError,
    LeaseError,
    MassChangeError,
    RebindError,
)
from ls_pipeline.engine.rebind import Choice, find_differences, rebind
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import Intent, Kind, TaskRow
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT, Bench
from tests.engine.test_crashes import Killed, Killer
from tests.engine.test_identity import MARK, assert_each_run_stops, labeled, restart_app, world
from tests.engine.test_load import Wrapped

__all__ = ["labeled"]  # a fixture

TAKE_OVER, RELOAD, FORGET = Choice


def find(bench, **parts):
    """Return the findings, and assert that finding them changed nothing."""
    before = world(bench)
    with bench.run(parts.pop("bucket", bench.target), **parts) as run:
        findings = find_differences(run)
    assert world(bench) == before
    return findings


def keys(bench):
    return sorted(key for key, _ in bench.tasks)


def labels_in_files(bench):
    """Return the number of annotations in each file, by task; None for a tombstone."""
    documents = [json.loads(body) for key, body in bench.files.items() if "/" not in key]
    return {
        document["id"]: None if document.get("deleted") else len(document["annotations"])
        for document in documents
    }


@pytest.fixture
def restored(labeled):
    """Return a bench whose Label Studio is of before one of three tasks, and one of two labels."""
    ids = {key: labeled.task_id(f"{key}.json") for key in "abc"}
    state = copy.deepcopy(labeled.app.__dict__)
    labeled.put("d.json", {"text": "d"})
    labeled.load()
    ids["d"] = labeled.task_id("d.json")
    labeled.app.annotate(ids["c"], RESULT)
    labeled.app.annotate(ids["d"], RESULT)
    labeled.export()
    restart_app(labeled, state)
    labeled.ids = ids
    return labeled


# -- what is found ------------------------------------------------------------------------------


def test_nothing_differs_if_nothing_happened(labeled):
    findings = find(labeled)

    assert (findings.differences, findings.notes, findings.choices) == ([], [], [])
    assert [project.title for project in findings.projects.values()] == ["Reviews"]
    assert (findings.known, findings.missing, findings.missing_files) == (3, 0, 0)


def test_nothing_differs_before_the_first_run(bench):
    assert (find(bench).differences, find(bench).projects) == ([], {})


def test_deleted_project_is_found(labeled):
    labeled.app.delete_project(1)
    findings = find(labeled)

    assert findings.differences == ["Project 1 does not exist any more."]
    assert (findings.projects, findings.choices) == ({}, [RELOAD, FORGET])
    assert (findings.missing, findings.missing_files) == (3, 2)


def test_another_project_under_the_id_is_found(labeled):
    labeled.app.delete_project(1)
    other = labeled.app.create_project("Reviews", CONFIG)
    findings = find(labeled)

    assert other.id == 1
    assert findings.differences[0].startswith("Project 1 is another one: it was created 2026-")
    assert [project.url for project in findings.projects.values()] == ["memory:1"]


def test_backup_of_label_studio_is_found(restored):
    findings = find(restored)

    assert "Label Studio was restored from a backup" in findings.differences[0]
    assert (findings.known, findings.missing) == (4, 1)
    assert (findings.missing_files, findings.outdated_files) == (1, 1)


def test_lost_mark_is_found(labeled):
    labeled.app.remove_mark(labeled.app.marks()[0])

    assert find(labeled).differences[0].startswith("Project 1 has lost its mark")


def test_backup_of_the_ledger_leaves_nothing_to_decide(labeled, tmp_path):
    backup = tmp_path / "backup.db"
    with labeled.ledger.database.engine.connect() as db:
        db.exec_driver_sql(f"VACUUM INTO '{backup}'")
    labeled.put("d.json", {"text": "d"})
    labeled.load()
    labeled.ledger = Ledger(f"sqlite:///{backup}", labeled.time, labeled.time.sleep)
    labeled.connection_ledger = labeled.ledger.connection_ledger(labeled.name)
    findings = find(labeled)
    created = labeled.load().tasks_created
    labeled.ledger.close()

    assert (findings.differences, findings.choices, created) == ([], [], 0)
    assert "The ledger is older than its marks" in findings.notes[0]


def test_emptied_target_leaves_nothing_to_decide(labeled):
    labeled.target.objects.clear()
    findings = find(labeled)

    assert findings.differences == []
    assert "The next export compares all of its files" in findings.notes[0]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ledger": 1}', b"\xff"])
def test_unreadable_mark_is_found_and_replaced(labeled, body):
    labeled.target.put(MARK, body, "application/json")
    findings = find(labeled)
    labeled.rebind("take-over")
    labeled.export()

    assert findings.differences == [
        f"s3://labels/{MARK} is no mark of ls-pipeline: a person or another program has written it."
    ]
    assert find(labeled).differences == []


def test_claim_of_the_target_alone_is_found(labeled):
    body = {"ledger": "f" * 32, "generations": {"reviews": 7}}
    labeled.target.put(MARK, json.dumps(body).encode(), "application/json")
    findings = find(labeled)
    labeled.rebind("take-over")

    assert (findings.is_claimed, findings.choices) == (True, [TAKE_OVER])
    assert "another installation writes there (ledger ffffffff" in findings.differences[0]
    assert labeled.export().written == 2


def test_connection_without_a_target_is_compared(labeled):
    source = {"type": "s3", "path": "bucket"}
    connection = build_connection(
        "reviews", source=source, target=None, project="Reviews", label_config=CONFIG
    )
    labeled.ledger.save(connection, "test")
    labeled.app.delete_project(1)
    findings = find(labeled, bucket=labeled.bucket)

    assert (len(findings.differences), findings.missing) == (1, 3)


def test_connection_whose_source_was_taken_away_misses_no_task(labeled):
    target = {"type": "s3-completions", "path": "labels"}
    connection = build_connection(
        "reviews", source=None, target=target, project="Reviews", label_config=CONFIG
    )
    labeled.ledger.save(connection, "test")
    labeled.app.remove_mark(labeled.app.marks()[0])

    assert (find(labeled).known, find(labeled).missing) == (3, 0)


@pytest.mark.parametrize("down", ["app", "target"])
def test_system_that_is_down_is_an_ordinary_error(labeled, down):
    def fail_app(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    def fail_bucket(*_):
        raise BucketUnavailableError("s3://labels/", "down")

    parts = {
        "app": {"app": Wrapped(labeled.app, marks=fail_app)},
        "target": {"bucket": Wrapped(labeled.target, pages=fail_bucket)},
    }
    with pytest.raises((LabelStudioUnavailableError, BucketUnavailableError)):
        find(labeled, **parts[down])


def test_run_that_works_on_the_connection_is_not_disturbed(labeled):
    with labeled.connection_ledger.acquire(), pytest.raises(LeaseError):
        labeled.rebind("reload")


# -- what is not offered ------------------------------------------------------------------------


@pytest.mark.parametrize("choice", Choice)
def test_no_choice_is_offered_if_nothing_differs(labeled, choice):
    before = world(labeled)
    with pytest.raises(RebindError, match=f"--{choice.value} is not offered, only nothing"):
        labeled.rebind(choice)

    assert world(labeled) == before


def test_take_over_is_not_offered_without_another_installation(restored):
    with pytest.raises(RebindError, match="only --reload and --forget"):
        restored.rebind("take-over")


def test_what_was_not_shown_is_not_done(restored):
    shown = find(restored)
    restored.app.delete_task(restored.ids["a"])
    before = world(restored)
    with restored.run(restored.target) as run, pytest.raises(RebindError, match="has changed"):
        rebind(run, RELOAD, shown)

    assert world(restored) == before


# -- reload -------------------------------------------------------------------------------------


def test_exactly_the_missing_tasks_are_loaded_again(restored):
    before = dict(restored.app.tasks)
    restored.rebind("reload")
    result = restored.load()

    assert (result.tasks_created, result.tasks_updated) == (1, 0)
    assert keys(restored) == ["a.json", "b.json", "c.json", "d.json"]
    assert before.items() <= restored.app.tasks.items()
    assert restored.load().changes == {Change.UNCHANGED: 4}


def test_files_of_missing_tasks_stay(restored):
    key = f"{restored.ids['d']}.json"
    before = restored.target.objects[key]
    restored.app.reuses_ids = False
    restored.app.import_tasks(1, [{"data": {"text": "of a person"}} for _ in range(20)])
    restored.rebind("reload")
    for _ in range(2):
        restored.load()
        restored.export()
        restored.snapshot()

    assert restored.target.objects[key] == before
    assert restored.connection_ledger.exports.count()[0] == 2


def test_labels_of_existing_tasks_are_those_of_label_studio(restored):
    restored.rebind("reload")
    restored.load()
    restored.export()

    assert labels_in_files(restored)[restored.ids["c"]] == 0


def test_file_of_a_missing_task_is_overwritten_once_its_id_is_labeled(restored):
    task_id = restored.ids["d"]
    restored.app._numbers = iter(range(task_id, 1000))
    restored.rebind("reload")
    restored.load()
    assert restored.task_id("d.json") == task_id
    restored.export()
    unlabeled = labels_in_files(restored)[task_id]
    restored.app.annotate(task_id, RESULT)
    restored.export()

    assert unlabeled == 1
    document = json.loads(restored.target.objects[f"{task_id}.json"])
    assert document == next(restored.app.completions(1, [task_id])).document


def test_file_of_a_missing_task_that_is_written_late_stays_too(restored):
    task_id = restored.ids["d"]
    row = TaskRow(f"{task_id}.json", 0, "", "x", task_id)
    with restored.connection_ledger.acquire() as held:
        held.intents.begin(Intent(Kind.WRITE, (row,), "s3://labels/", 1))
    restored.rebind("reload")
    restored.target.objects[row.key] = late = b'{"id": 0, "annotations": ["late"]}'
    for _ in range(3):
        restored.load()
        restored.export()

    assert restored.target.objects[row.key] == late


def test_deleted_project_is_created_and_filled_again(labeled):
    files = dict(labeled.files)
    labeled.app.delete_project(1)
    labeled.rebind("reload")
    result = labeled.load()
    labeled.export()

    assert (result.tasks_created, len(labeled.tasks)) == (3, 3)
    assert labeled.files == files
    assert_nothing_stops(labeled)


def assert_nothing_stops(bench):
    for run in (bench.load, bench.export, bench.snapshot):
        run()
    assert find(bench).differences == []


def test_tasks_that_people_deleted_can_be_loaded_again(labeled):
    labeled.app.delete_task(labeled.task_id("c.json"))
    findings = find(labeled)
    labeled.rebind("reload")

    assert (findings.differences, findings.choices) == ([], [RELOAD])
    assert (labeled.load().tasks_created, len(labeled.tasks)) == (1, 3)


def test_rows_of_objects_that_are_gone_are_not_loaded(labeled):
    labeled.bucket.delete("a.json")
    labeled.load()
    labeled.app.delete_project(1)
    labeled.rebind("reload")
    result = labeled.load()

    assert (result.tasks_created, keys(labeled)) == (2, ["b.json", "c.json"])


def test_each_version_of_a_row_is_loaded_again_with_new_task(labeled):
    labeled.set(on_change="new_task")
    labeled.put("a.json", {"text": "new"})
    labeled.load()
    labeled.app.delete_project(1)
    labeled.rebind("reload")

    assert (labeled.load().tasks_created, len(labeled.tasks)) == (3, 3)


# -- forget -------------------------------------------------------------------------------------


def test_forgotten_tasks_count_as_deleted_by_a_person(restored):
    restored.rebind("forget")
    loaded, exported = restored.load(), restored.export()

    assert (loaded.tasks_created, exported.deleted) == (0, 1)
    assert labels_in_files(restored)[restored.ids["d"]] is None


def test_many_forgotten_files_wait_for_consent(bench):
    bench.fill(range(30), labeled=range(30))
    bench.export()
    bench.app.delete_project(1)
    bench.rebind("forget")
    bench.load()
    before = dict(bench.files)
    with pytest.raises(MassChangeError, match="30 of 30"):
        bench.export()

    assert bench.files == before
    assert bench.export(allow_mass_change=True).deleted == 30


# -- several projects ---------------------------------------------------------------------------


@pytest.fixture
def several(bench):
    """Return a bench with five tasks in three projects."""
    bench.set(tasks_per_project=2)
    for number in range(5):
        bench.put(f"{number}.json", {"text": "a"})
    bench.load()
    return bench


@pytest.mark.parametrize(("project_id", "lost"), [(1, [0, 1]), (2, [2, 3]), (3, [4])])
def test_only_the_tasks_of_a_deleted_project_are_missing(several, project_id, lost):
    before = dict(several.app.tasks)
    several.app.delete_project(project_id)
    rest = dict(several.app.tasks)
    findings = find(several)
    several.rebind("reload")
    result = several.load()

    assert findings.missing == result.tasks_created == len(lost)
    assert rest.items() <= several.app.tasks.items()
    assert len(several.tasks) == len(before)
    assert_nothing_stops(several)


def test_renamed_project_is_kept_if_another_one_is_gone(several):
    several.app.projects[1] = ("Renamed", CONFIG)
    several.app.delete_project(3)
    several.rebind("reload")

    assert several.load().tasks_created == 1
    assert [project.title for project in map(several.app.project, several.app.projects)] == [
        "Renamed",
        "Reviews (2)",
        "Reviews (3)",
    ]


def test_lost_mark_of_an_overflow_project_is_found(several):
    (mark,) = (mark for mark in several.app.marks() if mark.project_id == 2)
    several.app.remove_mark(mark)
    with pytest.raises(IdentityError):
        several.load()
    findings = find(several)
    several.rebind("forget")

    assert [each[:28] for each in findings.differences] == ["Project 2 has lost its mark:"]
    assert_nothing_stops(several)


def test_mark_of_another_connection_of_this_ledger_stays(labeled):
    other = Bench(labeled.ledger, name="other")
    other.app, other.bucket = labeled.app, labeled.bucket
    other.load()
    labeled.app.add_mark(1, "f" * 32, "theirs", 3)
    labeled.rebind("take-over")

    owners = sorted(mark.connection for mark in labeled.app.marks())
    assert owners == ["other", "reviews"]
    assert other.load().changes == {Change.UNCHANGED: 3}


# -- two installations --------------------------------------------------------------------------


@pytest.fixture
def second(labeled, tmp_path):
    """Return a second installation with the same project, source and target."""
    other = Bench(f"sqlite:///{tmp_path}/second.db")
    other.app, other.bucket, other.target = labeled.app, labeled.bucket, labeled.target
    yield other
    other.ledger.close()


def test_installation_that_takes_over_goes_on_and_the_other_stops(labeled, second):
    assert_each_run_stops(second, "another installation")
    before = dict(labeled.tasks)
    files = dict(labeled.files)
    for taking, losing in ((second, labeled), (labeled, second), (second, labeled)):
        taking.rebind("take-over")
        assert (taking.load().tasks_created, dict(taking.tasks)) == (0, before)
        taking.export()
        assert files.items() <= taking.files.items()
        assert_each_run_stops(losing, "another installation")
        assert find(losing).choices == [TAKE_OVER]


def test_installation_that_takes_over_sees_what_the_other_did(labeled, second):
    second.rebind("take-over")
    second.put("d.json", {"text": "d"})
    second.load()
    second.app.annotate(second.task_id("d.json"), RESULT)
    second.export()
    second.app.delete_task(second.task_id("a.json"))
    second.export()
    findings = find(labeled)
    labeled.rebind("take-over")
    labeled.load()
    labeled.export()

    assert (findings.missing, findings.choices) == (1, [TAKE_OVER, RELOAD])
    assert keys(labeled) == ["b.json", "c.json", "d.json"]
    assert list(labels_in_files(labeled).values()).count(None) == 1


def test_take_over_may_load_again_what_is_missing(restored, second):
    restored.app.add_mark(1, "f" * 32, "reviews", 3)
    restored.rebind("reload")

    assert (restored.load().tasks_created, len(restored.app.marks())) == (1, 1)


# -- killed -------------------------------------------------------------------------------------


def apply_killed(bench, choice, at):
    """Rebind, and be killed at a call; return whether it came to its end."""
    killer = Killer(at)
    try:
        with bench.run(
            killer.wrap(bench.target), app=killer.wrap(bench.app), wrap=killer.wrap
        ) as run:
            rebind(run, choice)
    except Killed:
        return False
    return True


def rebind_again(bench, choice):
    """Rebind as a person does who was interrupted: until nothing differs."""
    if find(bench).differences or find(bench).missing:
        bench.rebind(choice)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["reload", "forget"])
def test_rebind_that_is_killed_anywhere_can_be_repeated(bench, choice, tmp_path):
    bench.fill("abc", labeled="ab")
    bench.export()
    bench.app.delete_project(1)
    files = dict(bench.files)
    ends, at, done = [], 0, False
    before, backup = copy.deepcopy((bench.app.__dict__, bench.target.objects)), tmp_path / "0.db"
    with bench.ledger.database.engine.connect() as db:
        db.exec_driver_sql(f"VACUUM INTO '{backup}'")
    while not done:
        at += 1
        restart_app(bench, before[0])
        bench.target.objects = dict(before[1])
        bench.ledger, bench.connection_ledger = copied(bench, backup, tmp_path / f"{at}.db")
        done = apply_killed(bench, Choice(choice), at)
        if choice == "reload" or find(bench).differences:
            rebind_again(bench, choice)
        bench.load()
        bench.export()
        ends.append((len(bench.tasks), bench.files == files, list(labels_in_files(bench).values())))
        bench.ledger.close()

    assert at > 20
    expected = (3, True, [1, 1]) if choice == "reload" else (0, False, [None, None])
    assert set(map(repr, ends)) == {repr(expected)}


def copied(bench, backup, path):
    shutil.copy(backup, path)
    ledger = Ledger(f"sqlite:///{path}", bench.time, bench.time.sleep)
    return ledger, ledger.connection_ledger(bench.name)


@pytest.mark.slow
def test_take_over_that_is_killed_anywhere_can_be_repeated(labeled, tmp_path):
    before = copy.deepcopy((labeled.app.__dict__, labeled.target.objects))
    at, done = 0, False
    while not done:
        at += 1
        restart_app(labeled, before[0])
        labeled.target.objects = dict(before[1])
        second = Bench(f"sqlite:///{tmp_path}/{at}.db")
        second.app, second.bucket, second.target = labeled.app, labeled.bucket, labeled.target
        done = apply_killed(second, TAKE_OVER, at)
        if find(second).differences:
            second.rebind("take-over")
        second.load()
        second.export()
        assert len(second.tasks) == 3
        assert_each_run_stops(labeled, "another installation")
        second.ledger.close()

    assert at > 20


def test_decision_ends_the_wait_of_the_sensors(restored):
    for work in ("tasks", "completions"):
        restored.fail(work, "It is another project.", needs_decision=True)
    restored.fail("training_data", "The bucket is down.")
    restored.rebind("reload")
    healths = [restored.connection_ledger.health.of(work) for work in ("tasks", "completions")]

    assert [(health.failure, health.retry_at) for health in healths] == [("", 0.0)] * 2
    assert restored.connection_ledger.health.of("training_data").failures == 1
