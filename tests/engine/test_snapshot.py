import json
from datetime import timedelta

import dagster as dg
import pytest

from ls_pipeline.assets import partitions
from ls_pipeline.assets import training_data as asset
from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.assets.settings import target_settings
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
from tests.engine.test_crashes import Doom, Killed
from tests.engine.test_load import Wrapped

LATEST = "training_data/latest.json"
OTHER = [{**RESULT[0], "value": {"choices": ["B"]}}]


@pytest.fixture
def labeled(bench, monkeypatch):
    """Give six labeled and exported tasks, in parts of two."""
    monkeypatch.setattr(domain, "PART_TASKS", 2)
    monkeypatch.setattr("ls_pipeline.engine.snapshot.PART_TASKS", 2)
    for key in "abcdef":
        bench.put(f"{key}.json", {"text": key})
    bench.load()
    for key in "abcdef":
        bench.app.annotate(bench.task_id(f"{key}.json"), RESULT)
    bench.export()
    return bench


def latest(bench):
    return Latest.model_validate_json(bench.target.objects[LATEST])


def opened(bench, tmp_path, name=""):
    snapshots = Snapshots(bench.target, "")
    manifest = snapshots.manifest(name or latest(bench).snapshot)
    return Snapshot(snapshots, manifest, tmp_path / manifest.snapshot)


def holds_what_is_there(bench, tmp_path):
    """See that the newest snapshot is whole, and holds exactly the project's completions."""
    found = {one["id"]: one for one in opened(bench, tmp_path).documents()}
    wanted = bench.app.completions(1, list(bench.app.tasks))
    assert found == {one.task_id: without_time(one) for one in wanted if one.annotations}


def files(bench, name):
    root = f"training_data/snapshots/{name}/"
    return {
        key[len(root) :]: body for key, body in bench.target.objects.items() if key.startswith(root)
    }


def test_snapshot_holds_all_completions(labeled, tmp_path):
    done = labeled.snapshot()

    holds_what_is_there(labeled, tmp_path)
    assert (done.is_new, done.failed, done.manifest.changes.new) == (True, {}, 6)
    assert done.manifest.rows == {"tasks": 6, "annotations": 6, "results": 6}
    assert (
        latest(labeled).manifest
        == f"training_data/snapshots/{latest(labeled).snapshot}/manifest.json"
    )


def test_manifest_says_all_about_its_files_and_origin(labeled):
    manifest = labeled.snapshot().manifest
    found = files(labeled, manifest.snapshot)
    told = {file.path: file for part in manifest.parts for file in part.files.values()}

    assert found.keys() == {*told, "manifest.json"}
    assert {path: len(found[path]) for path in told} == {
        path: file.bytes for path, file in told.items()
    }
    assert Manifest.model_validate_json(found["manifest.json"]) == manifest
    assert (manifest.connection, manifest.label_studio_version) == ("reviews", "1.23.2")
    assert (manifest.schema_version, manifest.settings_revision) == ("1", 1)


def test_nothing_new_makes_no_snapshot(labeled):
    labeled.snapshot()
    before = dict(labeled.target.objects)
    again = labeled.snapshot(target=Wrapped(labeled.target, put=None, copy=None))

    assert (again.is_new, labeled.target.objects == before) == (False, True)


def test_unchanged_parts_are_copied_and_changed_tasks_alone_are_read(labeled, tmp_path):
    labeled.snapshot()
    number = labeled.task_id("c.json")
    labeled.app.annotate(number, OTHER)
    labeled.export()
    read = []

    def completions(project_id, ids):
        read.extend(ids)
        return labeled.app.completions(project_id, ids)

    done = labeled.snapshot(app=Wrapped(labeled.app, completions=completions))

    assert (read, done.manifest.changes.changed) == ([number], 1)
    assert (done.written, done.copied) == (3, 9)
    holds_what_is_there(labeled, tmp_path)


def test_changes_in_steps_give_the_bytes_that_one_step_would(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.app.delete_task(labeled.task_id("f.json"))
    labeled.export()
    in_steps = labeled.snapshot().manifest
    for key in [key for key in labeled.target.objects if key.startswith("training_data")]:
        del labeled.target.objects[key]
    at_once = labeled.snapshot().manifest

    def tables(manifest):
        return [part.files for part in manifest.parts]

    assert tables(in_steps) == tables(at_once)
    assert in_steps.changes.removed == 1
    holds_what_is_there(labeled, tmp_path)


def test_part_whose_tasks_are_all_gone_goes(labeled, tmp_path):
    labeled.snapshot()
    for number in sorted(labeled.app.tasks)[-3:]:
        labeled.app.delete_task(number)
    labeled.export()
    done = labeled.snapshot()

    assert (done.manifest.rows["tasks"], done.manifest.changes.removed) == (3, 3)
    holds_what_is_there(labeled, tmp_path)


def test_snapshot_without_labels_has_empty_tables(bench, tmp_path):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.snapshot()

    assert [opened(bench, tmp_path).frame(name).shape[0] for name in ("tasks", "results")] == [0, 0]


def test_label_given_while_a_snapshot_is_made_is_exported_with_it(labeled, tmp_path):
    number = labeled.task_id("a.json")
    labeled.app.annotate(number, OTHER)
    done = labeled.snapshot()

    holds_what_is_there(labeled, tmp_path)
    assert (
        done.failed,
        len(json.loads(labeled.target.objects[f"{number}.json"])["annotations"]),
    ) == (
        {},
        2,
    )


def test_task_deleted_meanwhile_keeps_the_snapshot_back_until_it_is_exported(labeled, tmp_path):
    labeled.app.delete_task(labeled.task_id("a.json"))
    kept_back = labeled.snapshot()
    labeled.export()
    labeled.snapshot()

    assert "the ledger 6 with 6" in kept_back.failed["rows_as_exported"]
    assert (kept_back.manifest, kept_back.counts["tasks"]) == (None, 5)
    holds_what_is_there(labeled, tmp_path)


def test_failed_check_moves_nothing(labeled, monkeypatch):
    labeled.snapshot()
    before = latest(labeled)
    labeled.app.annotate(labeled.task_id("a.json"), OTHER)
    labeled.export()
    monkeypatch.setattr(
        "ls_pipeline.engine.snapshot.failed_checks", lambda *_: {"no_orphans": "There is one."}
    )
    done = labeled.snapshot()

    assert (done.failed, latest(labeled)) == ({"no_orphans": "There is one."}, before)
    assert "manifest.json" not in files(labeled, "00000002")


def test_other_shares_make_a_new_snapshot_with_other_splits(labeled, tmp_path):
    labeled.snapshot()
    labeled.set(target={"validation_share": 0.0, "test_share": 0.999})
    labeled.export()
    done = labeled.snapshot()

    assert (done.is_new, done.manifest.tally.splits) == (True, {"test": 6})
    assert (done.manifest.changes.changed, done.manifest.changes.new) == (0, 0)
    holds_what_is_there(labeled, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "manifest", "all", "damaged"])
def test_what_a_person_removed_is_made_anew(labeled, tmp_path, what):
    first = labeled.snapshot().manifest.snapshot
    root = f"training_data/snapshots/{first}/"
    gone = {
        "file": [root + "tasks/part-00000000.parquet"],
        "manifest": [root + "manifest.json"],
        "all": [key for key in labeled.target.objects if key.startswith(root)],
        "damaged": [],
    }[what]
    for key in gone:
        labeled.target.delete(key)
    if what == "damaged":
        labeled.target.objects[root + "results/part-00000001.parquet"] = b"PAR1"
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.export()
    done = labeled.snapshot()

    assert done.manifest.number == 2
    holds_what_is_there(labeled, tmp_path)


@pytest.mark.parametrize("damage", [b"PAR1", None])
def test_damaged_file_of_a_part_that_stays_as_it_is_is_made_anew(labeled, tmp_path, damage):
    first = labeled.snapshot().manifest.snapshot
    key = f"training_data/snapshots/{first}/results/part-00000001.parquet"
    good = labeled.target.get(key)
    labeled.target.put(key, damage or good[:-40] + b"X" * 40, "")
    labeled.app.annotate(labeled.task_id("f.json"), OTHER)
    labeled.export()
    labeled.snapshot()

    holds_what_is_there(labeled, tmp_path)


def test_file_that_may_not_be_copied_is_read_and_written(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("f.json"), OTHER)
    labeled.export()

    def refuse(key, to):
        raise BucketAccessError(f"s3://labels/{key}", "access is refused.")

    done = labeled.snapshot(target=Wrapped(labeled.target, copy=refuse))

    assert (done.failed, done.copied > 0) == ({}, True)
    holds_what_is_there(labeled, tmp_path)


def test_overtaken_writer_leaves_the_newer_ones_snapshot_alone(labeled, tmp_path):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("c.json"), OTHER)
    labeled.export()

    def sleep(key, *asked):
        if not slept and "results/part-00000001" in key:
            slept.append(key)
            labeled.time.sleep(3600)  # its lease runs out
            labeled.app.annotate(labeled.task_id("c.json"), RESULT)
            labeled.snapshot()
        return labeled.target.put(key, *asked)

    slept = []
    with pytest.raises(LeaseLostError):
        labeled.snapshot(target=Wrapped(labeled.target, put=sleep))

    holds_what_is_there(labeled, tmp_path)


def test_numbers_go_on_where_latest_was_removed(labeled):
    labeled.snapshot()
    labeled.target.delete(LATEST)

    assert labeled.snapshot().manifest.number == 2


def test_two_connections_do_not_share_a_training_set(labeled):
    labeled.snapshot()
    body = labeled.target.objects[latest(labeled).manifest]
    other = body.replace(b'"connection": "reviews"', b'"connection": "cats"')
    labeled.target.objects[latest(labeled).manifest] = other

    with pytest.raises(SnapshotError, match=r"connection 'cats'.* Set another prefix"):
        labeled.snapshot()


def test_damaged_latest_is_told(labeled):
    labeled.snapshot()
    labeled.target.objects[LATEST] = b"{"

    with pytest.raises(SnapshotError, match="Restore it, or remove it"):
        labeled.snapshot()


def test_somebody_else_who_moved_latest_is_told_and_not_overwritten(labeled):
    def put(key, body, content_type, if_version=None):
        if key == LATEST:
            labeled.target.objects[LATEST] = b'{"snapshot": "x", "number": 9, "manifest": "y"}'
        return labeled.target.put(key, body, content_type, if_version)

    with pytest.raises(SnapshotError, match="was moved by another writer"):
        labeled.snapshot(target=Wrapped(labeled.target, put=put))

    assert latest(labeled).number == 9


def test_lost_reply_of_the_last_put_is_no_failure(labeled, tmp_path):
    def put(key, body, content_type, if_version=None):
        if key == LATEST:
            labeled.target.put(key, body, content_type, if_version)
        return labeled.target.put(key, body, content_type, if_version)

    assert labeled.snapshot(target=Wrapped(labeled.target, put=put)).is_new
    holds_what_is_there(labeled, tmp_path)


def test_file_that_is_not_there_as_written_keeps_the_snapshot_back(labeled):
    def put(key, body, content_type, if_version=None):
        lost = key.endswith("results/part-00000001.parquet")
        return labeled.target.put(key, body[: 9 if lost else None], content_type, if_version)

    with pytest.raises(BucketUnavailableError, match="not as it was written"):
        labeled.snapshot(target=Wrapped(labeled.target, put=put))

    assert LATEST not in labeled.target.objects


@pytest.mark.slow
def test_writer_killed_anywhere_leaves_the_old_snapshot_or_the_new(labeled, tmp_path):
    labeled.snapshot()
    old = opened(labeled, tmp_path)
    before = sorted(one["id"] for one in old.documents())
    labeled.app.annotate(labeled.task_id("a.json"), OTHER)
    labeled.app.delete_task(labeled.task_id("e.json"))
    labeled.export()
    at = 0
    while True:
        at += 1
        doom = Doom(at)
        try:
            labeled.snapshot(doom.over(labeled.target), app=doom.over(labeled.app), wrap=doom.over)
        except Killed:
            assert sorted(one["id"] for one in opened(labeled, tmp_path).documents()) in (
                before,
                before[:4] + before[5:],
            )
            assert sorted(one["id"] for one in old.documents()) == before
        else:
            break

    assert at > 10
    labeled.snapshot()
    holds_what_is_there(labeled, tmp_path)


# -- retention ----------------------------------------------------------------------------------


def many(bench, count, **target):
    bench.set(target={"snapshots_kept": 2, "snapshots_kept_days": 0, **target})
    bench.export()
    names = []
    for _ in range(count):
        bench.app.annotate(bench.task_id("a.json"), RESULT)
        bench.export()
        names.append(bench.snapshot().manifest.snapshot)
    return names


def test_snapshots_that_were_never_finished_keep_no_place_and_go_in_the_end(labeled, monkeypatch):
    names = many(labeled, 2, delete=True)
    monkeypatch.setattr("ls_pipeline.engine.snapshot.failed_checks", lambda *_: {"no_orphans": "x"})
    for _ in range(3):
        labeled.app.annotate(labeled.task_id("a.json"), RESULT)
        labeled.export()
        assert labeled.snapshot().failed
    monkeypatch.undo()
    there = Snapshots(labeled.target, "").by_name()
    more = many(labeled, 1, delete=True)

    assert len(there) == 5
    assert [bool(files(labeled, name)) for name in [*names, *more]] == [False, True, True]
    labeled.time.sleep(2 * 86_400)
    last = many(labeled, 1, delete=True)
    assert {*Snapshots(labeled.target, "").by_name()} == {*more, *last}


def test_archives_of_a_snapshot_go_with_it(labeled):
    first = labeled.snapshot().manifest.snapshot
    archive = f"training_data/formats/{first}/CSV.zip"
    labeled.target.put(archive, b"zip", "application/zip")
    many(labeled, 2, delete=True)

    assert archive not in labeled.target.objects


def test_old_snapshots_go_where_the_target_may_delete(labeled, tmp_path):
    names = many(labeled, 4, delete=True)

    assert [bool(files(labeled, name)) for name in names] == [False, False, True, True]
    holds_what_is_there(labeled, tmp_path)


def test_old_snapshots_stay_without_leave_to_delete(labeled):
    names = many(labeled, 4)

    assert all(files(labeled, name) for name in names)


# -- when ---------------------------------------------------------------------------------------


def due(bench):
    target = bench.connection_ledger.settings.in_force().connection.target
    return snapshot_is_due(
        bench.connection_ledger.exports.snapshot_state(), target, bench.ledger.now()
    )


def test_snapshot_is_due_when_completions_changed_at_most_every_so_many_minutes(labeled):
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


def test_nothing_new_is_never_due(labeled):
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


def test_cron_whose_last_moment_has_passed_is_never_due(labeled):
    labeled.snapshot()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.export()
    target = labeled.connection_ledger.settings.in_force().connection.target
    never = target.params.model_copy(update={"snapshot_cron": "0 6 31 4 *"})
    training = labeled.connection_ledger.exports.snapshot_state()

    assert not snapshot_is_due(training, target.model_copy(update={"params": never}), 10**10)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("minutes", [0, 1])
def test_run_that_died_with_its_machine_keeps_no_snapshot_back(
    labeled, instance, environment, monkeypatch, minutes
):
    environment.setenv("LS_PIPELINE_DATABASE_URL", labeled.url)
    instance.add_dynamic_partitions(CONNECTIONS.name, ["reviews"])
    died = dg.DagsterRun(
        "job", tags={partitions.PARTITION_TAG: "reviews"}, status=dg.DagsterRunStatus.STARTED
    )
    instance.add_run(died)
    monkeypatch.setattr(partitions, "_ACQUIRE_TIME", timedelta(minutes=minutes))
    found = dg.evaluate_automation_conditions(defs(), instance)
    wanted = found.get_requested_partitions(asset.training_data.key)

    assert wanted == (set() if minutes else {"reviews"})


def test_what_failed_behind_a_snapshot_is_tried_again_though_nothing_changed(labeled):
    labeled.snapshot()
    (before,) = labeled.ledger.statuses()
    labeled.fail("training_data", "The bucket does not answer.")
    (failed,) = labeled.ledger.statuses()
    labeled.succeed("training_data")
    (well,) = labeled.ledger.statuses()
    now, later = labeled.ledger.now(), labeled.ledger.now() + 3600

    assert not wants_snapshot(before, later)
    assert [wants_snapshot(failed, at) for at in (now, later)] == [False, True]
    assert not wants_snapshot(well, later)


def test_pass_goes_by_the_settings_of_its_begin(labeled, instance, monkeypatch):
    def save_meanwhile(*parts):
        mark_mirror_stale(*parts)
        labeled.set(target={"prefix": "new"})

    monkeypatch.setattr(asset, "mark_mirror_stale", save_meanwhile)
    materialize(labeled, instance, asset.training_data, asset.completions, target_settings)

    assert LATEST in labeled.target.objects
    assert not [key for key in labeled.target.objects if key.startswith("new/")]


def test_target_that_moved_is_due(labeled):
    labeled.snapshot()
    labeled.set(target={"prefix": "elsewhere"})
    labeled.time.sleep(3600)

    assert due(labeled)
