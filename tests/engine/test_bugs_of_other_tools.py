"""Bugs of other tools that lost or duplicated objects; none may happen here.

Those about dates, uploads and listings are in tests/crash/test_changes.py; crashes and lost
replies in tests/crash and tests/machine.
"""

import json

import dagster as dg
import pytest

from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import BucketUnavailableError, LabelStudioUnavailableError
from ls_pipeline.sensors import tick
from ls_pipeline.sensors.objects import objects_tick
from tests.engine.test_load import Wrapped


def put(bench, *keys):
    for key in keys:
        bench.put(key, {"text": key})


def fail(*_):
    raise LabelStudioUnavailableError("no answer")


# -- ClickHouse S3Queue, with the numbers of its issues ------------------------------------------


def test_object_counts_as_loaded_after_its_tasks_are_stored(bench):
    """ClickHouse#111537."""
    put(bench, "a.json")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=fail))
    bench.load()

    assert list(bench.tasks) == [("a.json", 0)]


def test_failed_deletion_is_repeated_and_restores_nothing(bench):
    """ClickHouse#114421."""
    bench.set(on_delete="delete")
    put(bench, "a.json", "b.json")
    bench.load()
    bench.bucket.delete("a.json")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, delete_task=fail))
    result = bench.load()

    assert (list(bench.tasks), result.tasks_created) == ([("b.json", 0)], 0)


def test_fixed_object_with_the_same_name_is_loaded(bench):
    """ClickHouse#113054."""
    bench.put("a.json", b"{")
    bench.load()
    put(bench, "a.json")
    bench.load()

    assert (list(bench.tasks), bench.reasons) == ([("a.json", 0)], {})


def test_lost_ledger_loads_nothing_a_second_time(bench, tmp_path):
    """ClickHouse#112041."""
    put(bench, "a.json", "b.json")
    bench.load()
    bench.replace_ledger(f"sqlite:///{tmp_path}/new.db")
    bench.rebind("take-over")
    result = bench.load()
    bench.ledger.close()

    assert (len(bench.tasks), result.tasks_created) == (2, 0)


def test_object_abandoned_by_another_run_is_loaded(bench):
    """ClickHouse#112313."""
    put(bench, "a.json", "b.json")

    def overtake_and_fail(project_id, tasks):
        bench.time.sleep(3600)  # its lease runs out
        put(bench, "c.json")
        bench.load(bucket=Wrapped(bench.bucket, get=fail_to_read))
        fail()

    def fail_to_read(key, version=""):
        raise BucketUnavailableError(f"s3://bucket/{key}", "no answer")

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=overtake_and_fail))
    bench.time.sleep(60)
    bench.load()

    assert {key for key, _ in bench.tasks} == {"a.json", "b.json", "c.json"}


@pytest.mark.parametrize("rows", [1, 2500])
def test_object_is_loaded_whole_after_failing_halfway(bench, rows):
    """ClickHouse#57990; also Label Studio, which never loads the rest of such a file."""
    bench.put("a.json", [{"text": str(row)} for row in range(rows)])
    calls = []

    def fail_at_second(project_id, tasks):
        calls.append(tasks)
        return fail() if len(calls) == 2 else bench.app.import_tasks(project_id, tasks)

    app = Wrapped(bench.app, import_tasks=fail_at_second)
    if rows > 1:
        with pytest.raises(LabelStudioUnavailableError):
            bench.load(app=app)
        assert bench.connection_ledger.objects.count()[State.LOADED] == 0
        assert bench.connection_ledger.objects.count()[State.BEGUN] == 1
    bench.load(app=app)

    assert sorted(row for _, row in bench.tasks) == list(range(rows))


@pytest.mark.slow
def test_history_has_no_size_limit(bench):
    """ClickHouse remembers only 1,000 objects, Airbyte 10,000; they load the others again."""
    bench.set(use_blob_urls=True, data_key="text")
    for number in range(12_000):
        bench.bucket.put(f"{number}", b"", "text/plain")
    bench.load()
    put(bench, "new")
    result = bench.load()

    assert result.changes == {Change.UNCHANGED: 12_000, Change.ADDED: 1}


# -- other tools --------------------------------------------------------------------------------


def test_history_does_not_expire(bench):
    """Snowpipe's history expires after 14 days; Spark's after 7."""
    put(bench, "a.json")
    bench.load()
    bench.time.sleep(400 * 24 * 3600)

    assert bench.load().changes == {Change.UNCHANGED: 1}


def test_task_deleted_by_hand_stays_deleted(bench):
    """Label Studio creates the task again at its next sync."""
    put(bench, "a.json")
    bench.load()
    bench.app.delete_task(bench.task_id("a.json"))
    bench.load()

    assert bench.tasks == {}


def test_many_bad_objects_do_not_block_later_objects(bench):
    """Kestra reads only the first 25 names, even if it has read them before."""
    for number in range(1200):
        bench.put(f"a{number:04}", b"not json")
    put(bench, "b.json")
    bench.load()

    assert list(bench.tasks) == [("b.json", 0)]


def test_failed_listing_removes_nothing(bench):
    """Flink logs the error and continues."""
    bench.set(on_delete="delete")
    put(bench, *(f"{number:04}" for number in range(1500)))
    bench.load()

    def one_page(prefix="", after="", range_boundaries=()):
        yield next(bench.bucket.ranges(prefix, after))
        raise BucketUnavailableError("s3://bucket/", "no answer")

    with pytest.raises(BucketUnavailableError):
        bench.load(bucket=Wrapped(bench.bucket, ranges=one_page))

    assert (len(bench.tasks), bench.load().changes) == (1500, {Change.UNCHANGED: 1500})


@pytest.mark.slow
def test_tick_resumes_after_a_deleted_key(bench, monkeypatch):
    """``get_objects`` of dagster-aws raises in this case."""
    put(bench, *(f"{number:04}" for number in range(1500)))
    bench.load()
    put(bench, "1400")
    bench.bucket.put("1400", b"{}", "text/plain")
    monkeypatch.setattr(tick, "TICK_SECONDS", 1e-6)
    with dg.DagsterInstance.ephemeral() as instance:
        first = dg.build_sensor_context(instance=instance)
        cursor = objects_tick(first, bench.ledger, "s3", lambda _: bench.bucket).cursor
        bench.bucket.delete("0998")
        second = dg.build_sensor_context(instance=instance, cursor=cursor)
        result = objects_tick(second, bench.ledger, "s3", lambda _: bench.bucket)

    assert json.loads(cursor)["after"] == {"reviews": "0998"}
    assert [request.partition_key for request in result.run_requests] == ["reviews"]


def test_tasks_made_by_hand_are_not_mistaken_for_ours(bench):
    """FiftyOne identifies its tasks by their position."""
    put(bench, "a.json", "b.json")
    bench.load()

    def import_among_others(project_id, tasks):
        bench.app.import_tasks(project_id, [{"data": {"text": "by hand"}, "meta": {}}])
        bench.app.import_tasks(project_id, tasks)
        bench.app.import_tasks(project_id, [{"data": {"text": "by hand"}, "meta": {}}])
        fail()

    put(bench, "c.json", "d.json")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=import_among_others))
    bench.load()

    for key in ("c.json", "d.json"):
        assert bench.app.tasks[bench.task_id(key)]["data"]["text"] == key
    assert len(bench.app.tasks) == 6
