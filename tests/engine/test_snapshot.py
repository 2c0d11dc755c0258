import json
from datetime import timedelta

import dagster as dg
import pytest

from ls_pipeline.assets import partitions
from ls_pipeline.assets import training_data as asset
from ls_pipeline.definitions import defs
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    LeaseLostError,
    SnapshotError,
)
from ls_pipeline.domain.snapshot import parts as domain
from ls_pipeline.domain.snapshot.manifest import Latest, Manifest
from ls_pipeline.engine.detect import snapshot_is_due, wants_snapshot
from ls_pipeline.engine.local_mirror import mark_mirror_stale
from ls_pipeline.reader import Snapshot
from ls_pipeline.resources.snapshots import Snapshots
from tests.assets.test_settings import materialize
from tests.bench import RESULT
from tests.domain.snapshot.test_tables import without_time
from tests.engine.test_crashes import Killed, Killer
from tests.engine.test_load import Wrapped
from tests.standalone import CONNECTIONS, completions, target_settings, training_data

LATEST = "training_data/latest.json"
OTHERS = Latest(
    snapshot="00000009-0123456789ab",
    number=9,
    manifest="training_data/snapshots/00000009-0123456789ab/manifest.json",
).as_bytes()
OTHER = [{**RESULT[0], "value": {"choices": ["B"]}}]


@pytest.fixture
def labeled(bench, monkeypatch):
    """Return a bench with six labeled and exported tasks, in parts of two."""
    monkeypatch.setattr(domain, "PART_TASKS", 2)
    monkeypatch.setattr("ls_pipeline.engine.snapshot.PART_TASKS", 2)
    bench.fill("abcdef", labeled="abcdef")
    bench.export()
    return bench


def latest(bench):
    return Latest.model_validate_json(bench.target.objects[LATEST])


def opened(bench, tmp_path, name=""):
    snapshots = Snapshots(bench.target, "")
    manifest = snapshots.manifest(name or latest(bench).snapshot)
    return Snapshot(snapshots, manifest, tmp_path / manifest.snapshot)


def assert_snapshot_is_complete(bench, tmp_path):
    """Assert that the newest snapshot is whole, and holds exactly the project's completions."""
    documents = {document["id"]: document for document in opened(bench, tmp_path).documents()}
    completions = bench.app.completions(1, list(bench.app.tasks))
    assert documents == {
        completion.task_id: without_time(completion)
        for completion in completions
        if completion.annotations
    }


def task_ids(snapshot):
    return sorted(document["id"] for document in snapshot.documents())


def files(bench, name):
    root = f"training_data/snapshots/{name}/"
    return {
        key[len(root) :]: body for key, body in bench.target.objects.items() if key.startswith(root)
    }


def test_snapshot_holds_all_completions(labeled, tmp_path):
    result = labeled.snapshot()

    assert_snapshot_is_complete(labeled, tmp_path)
    assert (result.is_new, result.failed, result.manifest.changes.new) == (True, {}, 6)
    assert result.manifest.rows == {"tasks": 6, "annotations": 6, "results": 6}
    assert (
        latest(labeled).manifest
        == f"training_data/snapshots/{latest(labeled).snapshot}/manifest.json"
    )


def test_manifest_describes_its_files_and_origin(labeled):
    manifest = labeled.snapshot().manifest
    bodies = files(labeled, manifest.snapshot)
    listed = {file.path: file for part in manifest.parts for file in part.files.values()}

    assert bodies.keys() == {*listed, "manifest.json"}
    assert {path: len(bodies[path]) for path in listed} == {
        path: file.bytes for path, file in listed.items()
    }
    assert Manifest.model_validate_json(bodies["manifest.json"]) == manifest
    assert (manifest.connection, manifest.label_studio_version) == ("reviews", "1.23.2")
    assert (manifest.schema_version, manifest.settings_revision) == ("1", 1)


def test_unchanged_completions_make_no_snapshot(labeled):
    labeled.snapshot()
    before = dict(labeled.target.objects)
    second = labeled.snapshot(target=Wrapped(labeled.target, put=None, copy=None))

    assert (second.is_new, labeled.target.objects == before) == (False, True)


def test_only_changed_tasks_are_read_and_unchanged_parts_copied(labeled, tmp_path):
    labeled.snapshot()
    task_id = labeled.task_id("c.json")
    labeled.app.annotate(task_id, OTHER)
    labeled.export()
    read = []

    def completions(project_id, ids):
        read.extend(ids)
        return labeled.app.completions(project_id, ids)

    result = labeled.snapshot(app=Wrapped(labeled.app, completions=completions))

    assert (read, result.manifest.changes.changed) == ([task_id], 1)
    assert (result.written, result.copied) == (3, 9)
    assert_snapshot_is_complete(labeled, tmp_path)


def first_snapshot(bench):
    """Snapshot what is exported as if no snapshot were there; return the manifest."""
    for key in [key for key in bench.target.objects if key.startswith("training_data")]:
        del bench.target.objects[key]
    return bench.snapshot().manifest


def test_snapshot_in_steps_has_the_same_bytes(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.app.delete_task(labeled.task_id("f.json"))
    labeled.export()
    in_steps = labeled.snapshot().manifest
    at_once = first_snapshot(labeled)

    def tables(manifest):
        return [part.files for part in manifest.parts]

    assert tables(in_steps) == tables(at_once)
    assert in_steps.changes.removed == 1
    assert_snapshot_is_complete(labeled, tmp_path)


def mask(size):
    return [{**RESULT[0], "value": {"choices": ["A"], "rle": list(range(size))}}]


def test_large_completions_are_cut_into_parts_by_content_alone(labeled, tmp_path, monkeypatch):
    monkeypatch.setattr(domain, "PART_TASKS", 5000)
    monkeypatch.setattr(domain, "PART_BYTES", 20_000)
    labeled.snapshot()
    for name, size in {"a": 4000, "b": 1000, "e": 4000, "f": 1000}.items():
        labeled.app.edit(labeled.task_id(f"{name}.json"), mask(size))
    labeled.export()
    labeled.snapshot()
    labeled.app.edit(labeled.task_id("a.json"), mask(1000))
    labeled.app.delete_task(labeled.task_id("c.json"))
    labeled.export()
    in_steps = labeled.snapshot().manifest
    at_once = first_snapshot(labeled)

    assert [part.model_dump() for part in in_steps.parts] == [
        part.model_dump() for part in at_once.parts
    ]
    assert [part.tally.tasks for part in in_steps.parts] == [3, 1, 1]
    assert (in_steps.changes.changed, in_steps.changes.removed) == (1, 1)
    assert_snapshot_is_complete(labeled, tmp_path)


def test_unchanged_small_parts_of_a_range_are_copied(labeled, monkeypatch):
    monkeypatch.setattr(domain, "PART_TASKS", 5000)
    monkeypatch.setattr(domain, "PART_BYTES", 1000)
    first = labeled.snapshot().manifest
    labeled.app.edit(labeled.task_id("c.json"), OTHER)
    labeled.export()
    result = labeled.snapshot()

    assert len(first.parts) > 2
    assert (result.written, result.copied) == (3, 3 * len(first.parts) - 3)


def test_part_without_tasks_is_dropped(labeled, tmp_path):
    labeled.snapshot()
    for task_id in sorted(labeled.app.tasks)[-3:]:
        labeled.app.delete_task(task_id)
    labeled.export()
    result = labeled.snapshot()

    assert (result.manifest.rows["tasks"], result.manifest.changes.removed) == (3, 3)
    assert_snapshot_is_complete(labeled, tmp_path)


def test_snapshot_without_labels_has_empty_tables(bench, tmp_path):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.snapshot()

    assert [opened(bench, tmp_path).frame(name).shape[0] for name in ("tasks", "results")] == [0, 0]


def test_label_since_the_export_is_exported_with_the_snapshot(labeled, tmp_path):
    task_id = labeled.task_id("a.json")
    labeled.app.annotate(task_id, OTHER)
    result = labeled.snapshot()

    assert_snapshot_is_complete(labeled, tmp_path)
    assert (
        result.failed,
        len(json.loads(labeled.target.objects[f"{task_id}.json"])["annotations"]),
    ) == (
        {},
        2,
    )


def test_task_deleted_since_the_export_blocks_the_snapshot(labeled, tmp_path):
    labeled.app.delete_task(labeled.task_id("a.json"))
    blocked = labeled.snapshot()
    labeled.export()
    labeled.snapshot()

    assert "the ledger 6 with 6" in blocked.failed["rows_as_exported"]
    assert (blocked.manifest, blocked.counts["tasks"]) == (None, 5)
    assert_snapshot_is_complete(labeled, tmp_path)


def test_failed_check_leaves_the_latest_snapshot(labeled, monkeypatch):
    labeled.snapshot()
    before = latest(labeled)
    labeled.app.annotate(labeled.task_id("a.json"), OTHER)
    labeled.export()
    monkeypatch.setattr(
        "ls_pipeline.engine.snapshot.failed_checks", lambda *_: {"no_orphans": "There is one."}
    )
    result = labeled.snapshot()

    assert (result.failed, latest(labeled)) == ({"no_orphans": "There is one."}, before)
    assert "manifest.json" not in files(labeled, "00000002")


def test_changed_shares_make_a_snapshot_with_new_splits(labeled, tmp_path):
    labeled.snapshot()
    labeled.set(target={"validation_share": 0.0, "test_share": 0.999})
    labeled.export()
    result = labeled.snapshot()

    assert (result.is_new, result.manifest.tally.splits) == (True, {"test": 6})
    assert (result.manifest.changes.changed, result.manifest.changes.new) == (0, 0)
    assert_snapshot_is_complete(labeled, tmp_path)


def splits(bench, tmp_path):
    """Return the splits of the objects in the newest snapshot, by the letters of their names."""
    tasks = opened(bench, tmp_path).frame("tasks")
    return dict(zip(tasks["object_uri"].str[-6], tasks["split"], strict=True))


def test_group_moves_tasks_into_one_split_once(labeled, tmp_path):
    labeled.snapshot()
    before = splits(labeled, tmp_path)
    labeled.set(target={"group_by": r"key:[^e](\.json)"})
    labeled.export()
    manifest, again = labeled.snapshot().manifest, labeled.snapshot()
    after = splits(labeled, tmp_path)

    assert len({after[name] for name in after if name != "e"}) == 1
    assert after["e"] == before["e"]
    assert manifest.group_by == r"key:[^e](\.json)"
    assert manifest.changes.moved == sum(after[name] != before[name] for name in before) > 0
    assert (manifest.changes.changed, again.is_new) == (0, False)
    assert_snapshot_is_complete(labeled, tmp_path)


def test_rows_with_one_value_are_in_one_split(bench, tmp_path):
    rows = [{"text": str(number), "patient": {"id": number % 4}} for number in range(20)]
    bench.set(target={"group_by": "data:patient.id", "validation_share": 0.3, "test_share": 0.3})
    bench.put("a.json", rows[:10])
    bench.put("b.json", rows[10:])
    bench.load()
    for number in range(20):
        key = "a.json" if number < 10 else "b.json"
        bench.app.annotate(bench.task_id(key, number % 10), RESULT)
    bench.export()
    result = bench.snapshot()
    tasks = opened(bench, tmp_path).frame("tasks")
    patients = tasks["data"].map(lambda data: json.loads(data)["patient"]["id"])

    assert result.failed == {}
    assert tasks.groupby(patients)["split"].nunique().tolist() == [1, 1, 1, 1]
    assert tasks["split"].nunique() > 1
    assert tasks.groupby("object_uri")["split"].nunique().max() > 1


def test_equal_content_in_several_splits_is_reported(labeled, tmp_path):
    labeled.set(target={"validation_share": 0.0, "test_share": 0.5})
    labeled.export()
    labeled.snapshot()
    apart = splits(labeled, tmp_path)
    for name in "uvwxyz":  # of the same text, in a part of its own
        labeled.put(f"{name}.json", {"text": "a"})
    labeled.load()
    for name in "uvwxyz":
        labeled.app.annotate(labeled.task_id(f"{name}.json"), RESULT)
    labeled.export()
    result = labeled.snapshot()
    now = splits(labeled, tmp_path)
    copies = {now[name] for name in "auvwxyz"}

    assert (result.copied > 0, len(copies)) == (True, 2)
    assert apart == {name: now[name] for name in apart}
    assert (result.manifest.leaks.contents, result.manifest.leaks.tasks) == (1, 7)
    (example,) = result.manifest.leaks.examples
    assert [item.split for item in example] == ["train", "test"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["file", "manifest", "all", "damaged"])
def test_removed_or_damaged_files_are_written_again(labeled, tmp_path, fault):
    first = labeled.snapshot().manifest.snapshot
    root = f"training_data/snapshots/{first}/"
    deleted = {
        "file": [root + "tasks/part-00000000.parquet"],
        "manifest": [root + "manifest.json"],
        "all": [key for key in labeled.target.objects if key.startswith(root)],
        "damaged": [],
    }[fault]
    for key in deleted:
        labeled.target.delete(key)
    if fault == "damaged":
        labeled.target.objects[root + "results/part-00000002.parquet"] = b"PAR1"
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.export()
    result = labeled.snapshot()

    assert result.manifest.number == 2
    assert_snapshot_is_complete(labeled, tmp_path)


@pytest.mark.parametrize("damage", [b"PAR1", None])
def test_damaged_file_of_an_unchanged_part_is_rewritten(labeled, tmp_path, damage):
    first = labeled.snapshot().manifest.snapshot
    key = f"training_data/snapshots/{first}/results/part-00000002.parquet"
    good = labeled.target.get(key)
    labeled.target.put(key, damage or good[:-40] + b"X" * 40, "")
    labeled.app.annotate(labeled.task_id("f.json"), OTHER)
    labeled.export()
    labeled.snapshot()

    assert_snapshot_is_complete(labeled, tmp_path)


def test_file_that_may_not_be_copied_is_rewritten(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("f.json"), OTHER)
    labeled.export()

    def refuse(key, to):
        raise BucketAccessError(f"s3://labels/{key}", "access is refused.")

    result = labeled.snapshot(target=Wrapped(labeled.target, copy=refuse))

    assert (result.failed, result.copied > 0) == ({}, True)
    assert_snapshot_is_complete(labeled, tmp_path)


def test_overtaken_writer_leaves_the_newer_snapshot_alone(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.export()

    def sleep(key, *arguments, **options):
        if not slept and "results/part-00000002" in key:
            slept.append(key)
            labeled.time.sleep(3600)  # its lease runs out
            labeled.app.annotate(labeled.task_id("c.json"), RESULT)
            labeled.snapshot()
        return labeled.target.put(key, *arguments, **options)

    slept = []
    with pytest.raises(LeaseLostError):
        labeled.snapshot(target=Wrapped(labeled.target, put=sleep))

    assert_snapshot_is_complete(labeled, tmp_path)


def test_numbering_continues_after_latest_is_removed(labeled):
    labeled.snapshot()
    labeled.target.delete(LATEST)

    assert labeled.snapshot().manifest.number == 2


def test_two_connections_cannot_share_a_training_set(labeled):
    labeled.snapshot()
    body = labeled.target.objects[latest(labeled).manifest]
    other = body.replace(b'"connection": "reviews"', b'"connection": "cats"')
    labeled.target.objects[latest(labeled).manifest] = other

    with pytest.raises(SnapshotError, match=r"connection 'cats'.* Set another prefix"):
        labeled.snapshot()


def test_damaged_latest_is_an_error(labeled):
    labeled.snapshot()
    labeled.target.objects[LATEST] = b"{"

    with pytest.raises(SnapshotError, match="was damaged or replaced"):
        labeled.snapshot()


def test_latest_moved_by_another_writer_is_not_overwritten(labeled):
    def put(key, body, content_type, if_version=None):
        if key == LATEST:
            labeled.target.objects[LATEST] = OTHERS
        return labeled.target.put(key, body, content_type, if_version)

    with pytest.raises(SnapshotError, match="was moved by another writer"):
        labeled.snapshot(target=Wrapped(labeled.target, put=put))

    assert latest(labeled).number == 9


def test_lost_reply_of_the_last_put_still_succeeds(labeled, tmp_path):
    def put(key, body, content_type, if_version=None):
        if key == LATEST:
            labeled.target.put(key, body, content_type, if_version)
        return labeled.target.put(key, body, content_type, if_version)

    assert labeled.snapshot(target=Wrapped(labeled.target, put=put)).is_new
    assert_snapshot_is_complete(labeled, tmp_path)


def test_truncated_upload_blocks_the_snapshot(labeled):
    def put(key, body, content_type, if_version=None):
        lost = key.endswith("results/part-00000002.parquet")
        return labeled.target.put(key, body[: 9 if lost else None], content_type, if_version)

    with pytest.raises(BucketUnavailableError, match="not as it was written"):
        labeled.snapshot(target=Wrapped(labeled.target, put=put))

    assert LATEST not in labeled.target.objects


@pytest.mark.slow
def test_writer_killed_anywhere_leaves_the_old_or_new_snapshot(labeled, tmp_path):
    labeled.snapshot()
    old = opened(labeled, tmp_path)
    before = task_ids(old)
    labeled.app.annotate(labeled.task_id("a.json"), OTHER)
    labeled.app.delete_task(labeled.task_id("e.json"))
    labeled.export()
    at = 0
    while True:
        at += 1
        killer = Killer(at)
        try:
            labeled.snapshot(
                killer.wrap(labeled.target), app=killer.wrap(labeled.app), wrap=killer.wrap
            )
        except Killed:
            assert task_ids(opened(labeled, tmp_path)) in (before, before[:4] + before[5:])
            assert task_ids(old) == before
        else:
            break

    assert at > 10
    labeled.snapshot()
    assert_snapshot_is_complete(labeled, tmp_path)


# -- retention ----------------------------------------------------------------------------------


def make_snapshots(bench, count, **target):
    bench.set(target={"snapshots_kept": 2, "snapshots_kept_days": 0, **target})
    bench.export()
    names = []
    for _ in range(count):
        bench.app.annotate(bench.task_id("a.json"), RESULT)
        bench.export()
        names.append(bench.snapshot().manifest.snapshot)
    return names


def test_unfinished_snapshots_do_not_count_and_are_deleted(labeled, monkeypatch):
    names = make_snapshots(labeled, 2, delete=True)
    monkeypatch.setattr("ls_pipeline.engine.snapshot.failed_checks", lambda *_: {"no_orphans": "x"})
    for _ in range(3):
        labeled.app.annotate(labeled.task_id("a.json"), RESULT)
        labeled.export()
        assert labeled.snapshot().failed
    monkeypatch.undo()
    before_retention = Snapshots(labeled.target, "").by_name()
    more = make_snapshots(labeled, 1, delete=True)

    assert len(before_retention) == 5
    assert [bool(files(labeled, name)) for name in [*names, *more]] == [False, True, True]
    labeled.time.sleep(2 * 86_400)
    last = make_snapshots(labeled, 1, delete=True)
    assert {*Snapshots(labeled.target, "").by_name()} == {*more, *last}


def test_objects_of_others_stay_where_they_are(labeled):
    first = labeled.snapshot().manifest.snapshot
    others = {
        f"training_data/{key}"
        for key in (
            "snapshots/notes.txt",
            "snapshots/mine/manifest.json",
            "snapshots/99999999/tasks/part-00000000.parquet",
            f"snapshots/{first}/notes.txt",
            f"snapshots/{first}/tasks/mine.parquet",
            f"formats/{first}/mine.zip",
            f"formats/{first}/mine/COCO.zip",
        )
    }
    for key in others:
        labeled.target.put(key, b"mine", "")
    names = make_snapshots(labeled, 3, delete=True)

    assert labeled.target.objects.keys() >= others
    assert [len(files(labeled, name)) for name in (first, names[0])] == [2, 0]
    assert names[-1].startswith("00000004")


def test_object_that_is_not_deleted_stops_no_other(labeled):
    names = make_snapshots(labeled, 3, delete=False)
    protected = {f"training_data/snapshots/{names[0]}/{path}" for path in files(labeled, names[0])}

    def delete(key):
        if key in protected:
            raise BucketAccessError(f"s3://labels/{key}", "the object is locked.")
        labeled.target.delete(key)

    labeled.set(target={"snapshots_kept": 1, "snapshots_kept_days": 0, "delete": True})
    labeled.export()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.export()
    result = labeled.snapshot(target=Wrapped(labeled.target, delete=delete))

    assert result.removed == names[1:]
    assert list(result.not_removed) == [
        f"s3://labels/training_data/snapshots/{names[0]}/manifest.json"
    ]
    assert files(labeled, names[0]).keys() == {
        key.partition(f"{names[0]}/")[2] for key in protected
    }


def test_archives_of_a_snapshot_are_deleted_with_it(labeled):
    first = labeled.snapshot().manifest.snapshot
    archive = f"training_data/formats/{first}/CSV.zip"
    labeled.target.put(archive, b"zip", "application/zip")
    make_snapshots(labeled, 2, delete=True)

    assert archive not in labeled.target.objects


def test_old_snapshots_are_deleted_if_the_target_allows_it(labeled, tmp_path):
    names = make_snapshots(labeled, 4, delete=True)

    assert [bool(files(labeled, name)) for name in names] == [False, False, True, True]
    assert_snapshot_is_complete(labeled, tmp_path)


def test_old_snapshots_stay_if_the_target_forbids_deletion(labeled):
    names = make_snapshots(labeled, 4)

    assert all(files(labeled, name) for name in names)


# -- when a snapshot is due -----------------------------------------------------------------------


def due(bench):
    target = bench.connection_ledger.settings.in_force().connection.target
    return snapshot_is_due(
        bench.connection_ledger.exports.snapshot_state(), target, bench.ledger.now()
    )


def test_snapshot_is_due_after_changes_and_snapshot_minutes(labeled):
    labeled.set(target={"snapshot_minutes": 10})
    at_first = due(labeled)
    labeled.snapshot()
    unchanged = due(labeled)
    labeled.time.sleep(9 * 60)
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.export()
    too_early = due(labeled)
    labeled.time.sleep(60)

    assert (at_first, unchanged, too_early, due(labeled)) == (True, False, False, True)


def test_snapshot_is_never_due_without_changes(labeled):
    labeled.snapshot()
    labeled.time.sleep(400 * 24 * 3600)
    labeled.export()

    assert not due(labeled)


def test_snapshot_on_a_cron_waits_for_it(labeled):
    labeled.set(target={"snapshot_cron": "0 6 * * *"})
    labeled.export()
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.export()
    before = due(labeled)
    labeled.time.sleep(24 * 3600)

    assert (before, due(labeled)) == (False, True)


def test_snapshot_cron_that_never_matches_is_never_due(labeled):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.export()
    target = labeled.connection_ledger.settings.in_force().connection.target
    never = target.params.model_copy(update={"snapshot_cron": "0 6 31 4 *"})
    training = labeled.connection_ledger.exports.snapshot_state()

    assert not snapshot_is_due(training, target.model_copy(update={"params": never}), 10**10)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("minutes", [0, 1])
def test_run_that_died_with_its_host_blocks_no_snapshot(
    labeled, instance, environment, monkeypatch, minutes
):
    environment.setenv("LS_PIPELINE_DATABASE_URL", labeled.url)
    instance.add_dynamic_partitions(CONNECTIONS.name, ["reviews"])
    died = dg.DagsterRun(
        "load_tasks", tags={partitions.PARTITION_TAG: "reviews"}, status=dg.DagsterRunStatus.STARTED
    )
    instance.add_run(died)
    monkeypatch.setattr(partitions, "_ACQUIRE_TIME", timedelta(minutes=minutes))
    evaluated = dg.evaluate_automation_conditions(defs(), instance)
    requested = evaluated.get_requested_partitions(training_data.key)

    assert requested == (set() if minutes else {"reviews"})


def test_failed_snapshot_run_is_retried_without_changes(labeled):
    labeled.snapshot()
    (before,) = labeled.ledger.statuses()
    labeled.fail("training_data", "The bucket does not answer.")
    (failed,) = labeled.ledger.statuses()
    labeled.succeed("training_data")
    (healthy,) = labeled.ledger.statuses()
    now, later = labeled.ledger.now(), labeled.ledger.now() + 3600

    assert not wants_snapshot(before, later)
    assert [wants_snapshot(failed, at) for at in (now, later)] == [False, True]
    assert not wants_snapshot(healthy, later)


def test_run_uses_the_settings_of_its_start(labeled, instance, monkeypatch):
    def change_settings(*arguments):
        mark_mirror_stale(*arguments)
        labeled.set(target={"prefix": "new"})

    monkeypatch.setattr(asset, "mark_mirror_stale", change_settings)
    materialize(labeled, instance, training_data, completions, target_settings)

    assert LATEST in labeled.target.objects
    assert not [key for key in labeled.target.objects if key.startswith("new/")]


def test_snapshot_is_due_after_the_target_moves(labeled):
    labeled.snapshot()
    labeled.set(target={"prefix": "elsewhere"})
    labeled.time.sleep(3600)

    assert due(labeled)
