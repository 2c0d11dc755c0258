import json
import threading
from datetime import timedelta

import dagster as dg
import pytest

from ls_pipeline.assets import partitions
from ls_pipeline.assets.run import connection_run
from ls_pipeline.domain.errors import BucketNotFoundError
from ls_pipeline.domain.moments import earlier
from ls_pipeline.resources.ledger.health import RETRY_AT_MOST
from ls_pipeline.resources.ledger.records import Intent, Kind
from ls_pipeline.sensors import completions, probes, tick
from ls_pipeline.sensors.completions import completions_tick
from ls_pipeline.sensors.objects import objects_tick
from tests.bench import RESULT, Bench
from tests.engine.test_load import Wrapped


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger)


def look(bench, instance, cursor=None, bucket=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return objects_tick(context, bench.ledger, "s3", lambda _: bucket or bench.bucket)


def look_at_labels(bench, instance, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return completions_tick(context, bench.ledger, bench.app)


def wanted(result):
    return [request.partition_key for request in result.run_requests]


def test_new_object_asks_for_a_run_of_its_connection(bench, instance):
    bench.put("a.json", {"text": "a"})
    (request,) = look(bench, instance).run_requests

    assert request.partition_key == "reviews"


def test_nothing_new_is_said_in_the_skip_reason(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert look(bench, instance).skip_reason.skip_message == "reviews: nothing new."


def test_no_connection_is_said_in_the_skip_reason(bench, instance):
    bench.ledger.remove("reviews")

    assert look(bench, instance).skip_reason.skip_message == "Nothing to watch yet."


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_changed_and_removed_objects_ask_for_a_run(bench, instance, change):
    bench.put("a.json", {"text": "a"})
    bench.load()
    if change == "replaced":
        bench.put("a.json", {"text": "b"})
    else:
        bench.bucket.delete("a.json")

    assert wanted(look(bench, instance)) == ["reviews"]


def test_filtered_and_quarantined_objects_ask_for_nothing(bench, instance):
    bench.set(regex="a")
    bench.put("a.json", b"not json")
    bench.put("b.json", {"text": "b"})
    bench.load()

    assert wanted(look(bench, instance)) == []


def test_quarantine_that_would_be_read_otherwise_asks_for_a_run(bench, instance):
    bench.put("a.png", b"not json")
    bench.load()
    quiet = wanted(look(bench, instance))
    bench.set(use_blob_urls=True)

    assert (quiet, wanted(look(bench, instance))) == ([], ["reviews"])


def test_local_copy_that_is_due_asks_for_a_run(bench, instance):
    bench.load()
    bench.set(create_local_copy=True, target={"create_local_copy": True})
    asked = wanted(look(bench, instance)), wanted(look_at_labels(bench, instance))
    bench.copy()
    bench.copy("target")

    assert asked == (["reviews"], ["reviews"])
    assert (wanted(look(bench, instance)), wanted(look_at_labels(bench, instance))) == ([], [])


def test_disabled_connection_asks_for_nothing(bench, instance):
    bench.put("a.json", {"text": "a"})
    off = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"enabled": False}
    )
    bench.ledger.save(off, "test")

    assert look(bench, instance).skip_reason.skip_message == "Nothing to watch yet."


def test_pending_import_asks_for_a_run(bench, instance):
    with bench.connection_ledger.acquire() as held:
        held.intents.begin(Intent(Kind.IMPORT, (), "", 1))

    assert wanted(look(bench, instance)) == ["reviews"]


def add_run(instance, status, job="load_tasks"):
    run = dg.DagsterRun(job, run_id="1", tags={partitions.PARTITION_TAG: "reviews"}, status=status)
    instance.add_run(run)
    instance.report_engine_event("It began.", run)


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_run_under_way_asks_for_no_second_one(bench, instance, status):
    bench.put("a.json", {"text": "a"})
    add_run(instance, dg.DagsterRunStatus[status])

    assert "a run is under way" in look(bench, instance).skip_reason.skip_message


def test_connection_that_is_held_asks_for_no_run(bench, instance):
    bench.put("a.json", {"text": "a"})
    with bench.connection_ledger.acquire():
        reason = look(bench, instance).skip_reason.skip_message

    assert "is working on it" in reason


def test_run_that_was_killed_long_ago_delays_no_connection(bench, instance, monkeypatch):
    bench.put("a.json", {"text": "a"})
    add_run(instance, dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr(partitions, "_ACQUIRE_TIME", timedelta(0))

    assert wanted(look(bench, instance)) == ["reviews"]


def test_failing_connection_waits_and_says_why_and_until_when(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.fail("tasks", "Label Studio is down.")
    reason = look(bench, instance).skip_reason.skip_message

    assert "Label Studio is down. Trying again at " in reason


def test_failing_connection_waits_an_hour_at_most_if_the_clock_is_set_back(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.fail("tasks", "Label Studio is down.")
    bench.time.sleep(-2 * RETRY_AT_MOST)

    assert wanted(look(bench, instance)) == ["reviews"]


def test_missing_bucket_is_said_and_stops_no_other(bench, instance):
    other = Bench(bench.url, name="absent")
    bench.put("a.json", {"text": "a"})
    calls = []

    def open_bucket(_name):
        calls.append(_name)
        return bench.bucket if len(calls) > 1 else missing

    def fail(*_):
        raise BucketNotFoundError("s3://absent/")

    missing = Wrapped(other.bucket, pages=fail)
    context = dg.build_sensor_context(instance=instance)
    result = objects_tick(context, bench.ledger, "s3", open_bucket)

    assert wanted(result) == ["reviews"]


def test_missing_bucket_alone_is_the_skip_reason(bench, instance):
    bench.bucket.exists = False

    assert "the bucket does not exist" in look(bench, instance).skip_reason.skip_message


def test_tick_that_runs_out_of_time_is_continued_by_the_next(bench, instance, monkeypatch):
    for n in range(2500):
        bench.put(f"{n:04}.json", {"text": "a"})
    bench.load()
    bench.put("2499.json", {"text": "changed"})
    monkeypatch.setattr(tick, "TICK_SECONDS", 1e-6)
    cursors, result = [], look(bench, instance)
    while not wanted(result) and len(cursors) < 5:
        cursors.append(result.cursor)
        result = look(bench, instance, cursors[-1])

    assert [json.loads(cursor)["after"] for cursor in cursors] == [
        {"reviews": "0998.json"},
        {"reviews": "1997.json"},
    ]


def test_unknown_partition_is_added_with_the_run(bench, instance):
    bench.put("a.json", {"text": "a"})
    (request,) = look(bench, instance).dynamic_partitions_requests

    assert request.partition_keys == ["reviews"]


@pytest.mark.parametrize("tick", [look, look_at_labels])
def test_partition_of_a_removed_connection_is_removed(bench, instance, tick):
    instance.add_dynamic_partitions("connections", ["reviews", "about to be added"])
    bench.ledger.remove("reviews")
    (request,) = tick(bench, instance).dynamic_partitions_requests

    assert request.partition_keys == ["reviews"]
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest)


def test_sensor_changes_nothing(bench, instance):
    bench.put("a.json", {"text": "a"})
    look(bench, instance)

    assert (bench.app.tasks, list(bench.connection_ledger.objects.known())) == ({}, [])


def test_new_label_asks_for_a_run(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)

    assert wanted(look_at_labels(bench, instance)) == ["reviews"]


def test_exported_label_asks_for_nothing_more(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()

    result = look_at_labels(bench, instance)
    assert result.skip_reason.skip_message == "reviews: no new labels."


def test_deleted_label_asks_for_a_run(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    number = bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.app.delete_annotation(number)

    assert wanted(look_at_labels(bench, instance)) == ["reviews"]


def test_task_deleted_by_hand_asks_for_a_run_once(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.app.delete_task(bench.task_id("a.json"))
    asked = wanted(look_at_labels(bench, instance))
    bench.export()

    assert (asked, wanted(look_at_labels(bench, instance))) == (["reviews"], [])


def test_label_in_an_earlier_project_asks_for_a_run(bench, instance):
    bench.set(tasks_per_project=1)
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    bench.export()
    quiet = look_at_labels(bench, instance)
    bench.app.annotate(bench.task_id("a.json", 0), RESULT)

    assert (wanted(quiet), wanted(look_at_labels(bench, instance))) == ([], ["reviews"])


def test_deleted_project_asks_for_a_run_that_says_so_and_holds_up_no_other(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    later = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"name": "second", "project": "Another"}
    )
    bench.ledger.save(later, "test")
    second = bench.ledger.connection_ledger("second")
    bench.load(connection_ledger=second)
    bench.app.annotate(second.objects.rows_of("a.json")[0].task_id, RESULT)
    del bench.app.projects[1]

    assert sorted(wanted(look_at_labels(bench, instance))) == ["reviews", "second"]


def seen(result, name="reviews"):
    """Return the time from which the next tick compares a connection's labels."""
    cursor = json.loads(result.cursor)
    return cursor["behind"].get(name, cursor["as_of"])


def test_labels_are_compared_from_when_nothing_differed(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    quiet = look_at_labels(bench, instance)
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    busy = look_at_labels(bench, instance, quiet.cursor)

    assert seen(busy) == seen(quiet) > "2026"


def test_connection_that_has_new_labels_leaves_no_other_behind(bench, instance):
    other = Bench(bench.url, name="other")
    other.app = bench.app
    for one in (bench, other):
        one.put("a.json", {"text": "a"})
        one.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    other.export()
    result = look_at_labels(bench, instance)

    assert wanted(result) == ["reviews"]
    assert seen(result, "other") > seen(result) == ""


def test_label_studio_that_is_silent_is_said_and_ends_the_tick(bench, instance, monkeypatch):
    monkeypatch.setattr(tick, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(probes, "GRACE_SECONDS", 0.1)
    bench.put("a.json", {"text": "a"})
    bench.load()
    gate = threading.Event()
    silent = Wrapped(bench.app, now=lambda *_: gate.wait() and "")
    context = dg.build_sensor_context(instance=instance)
    result = completions_tick(context, bench.ledger, silent)
    gate.set()

    assert result.skip_reason.skip_message == "reviews: no answer came in time."
    assert seen(result) == ""


def test_answer_of_label_studio_that_outlasts_a_tick_is_for_the_next(bench, instance, monkeypatch):
    monkeypatch.setattr(tick, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(probes, "GRACE_SECONDS", 0.1)
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    gate, asked = threading.Event(), []

    def count(project_ids):
        asked.append(project_ids)
        gate.wait()
        return bench.app.count_annotations(project_ids)

    slow, looks = Wrapped(bench.app, count_annotations=count), probes.ProbePool()
    context = dg.build_sensor_context(instance=instance)
    first = completions_tick(context, bench.ledger, slow, looks)
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "Label Studio":
            thread.join()
    second = completions_tick(context, bench.ledger, slow, looks)

    assert first.run_requests == []
    assert [one.partition_key for one in second.run_requests] == ["reviews"]
    assert len(asked) == 1


def test_clock_of_label_studio_that_is_set_back_asks_for_one_run_and_lists_nothing(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    listed = []
    back = Wrapped(
        bench.app,
        now=lambda: earlier(bench.app.now(), timedelta(hours=1)),
        task_states=lambda *asked: listed.append(asked) or bench.app.task_states(*asked),
    )
    context = dg.build_sensor_context(instance=instance)
    asked = completions_tick(context, bench.ledger, back)
    before = list(listed)
    bench.export(app=back)
    after = completions_tick(context, bench.ledger, back)

    assert ([one.partition_key for one in asked.run_requests], before) == (["reviews"], [])
    assert after.run_requests == []


def test_unlabeled_tasks_are_not_listed(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    listed = []
    app = Wrapped(bench.app, task_states=lambda *asked: listed.append(asked) or iter(()))
    context = dg.build_sensor_context(instance=instance)
    result = completions_tick(context, bench.ledger, app)

    assert (result.skip_reason.skip_message, listed) == ("reviews: no new labels.", [])


def test_of_many_connections_a_tick_says_the_same_once(bench, instance):
    settings = bench.connection_ledger.settings.in_force().connection
    for number in range(50):
        bench.ledger.save(settings.model_copy(update={"name": f"c-{number}"}), "test")
    result = look(bench, instance)

    assert result.skip_reason.skip_message.endswith(" and 50 others: nothing new.")
    assert len(result.skip_reason.skip_message) < 100


def test_edit_made_while_a_connection_was_disabled_is_seen(bench, instance):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    settings = bench.connection_ledger.settings.in_force().connection
    bench.ledger.save(settings.model_copy(update={"enabled": False}), "test")
    bench.app.edit(bench.task_id("a.json"), [])
    unwatched = look_at_labels(bench, instance)
    bench.ledger.save(settings, "test")
    later = json.dumps({**json.loads(unwatched.cursor), "as_of": "2999-01-01T00:00:00.000000Z"})

    assert wanted(look_at_labels(bench, instance, later)) == ["reviews"]


def test_labels_wait_until_tasks_are_loaded(bench, instance):
    reason = look_at_labels(bench, instance).skip_reason.skip_message

    assert reason == "reviews: no tasks were loaded yet."


def test_run_of_a_removed_connection_says_so(bench, instance):
    with (
        pytest.raises(dg.Failure, match="no connection 'gone'"),
        connection_run(dg.build_asset_context(partition_key="gone"), bench.ledger, "t"),
    ):
        pass


def reported(result):
    return [one.passed for one in result.asset_events]


def test_labels_that_stop_coming_are_reported_once_and_again_when_they_come(
    bench, instance, monkeypatch
):
    counted = []
    count = completions.stalled_connections
    monkeypatch.setattr(
        completions, "stalled_connections", lambda ledger: counted.append(1) or count(ledger)
    )
    bench.put("a.json", {"text": "a"})
    bench.load()
    first = look_at_labels(bench, instance)
    bench.time.sleep(8 * 86_400)
    late = look_at_labels(bench, instance, first.cursor)
    again = look_at_labels(bench, instance, late.cursor)
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    with connection_run(
        dg.build_asset_context(partition_key="reviews"), bench.ledger, "completions"
    ):
        pass
    bench.export()
    bench.time.sleep(completions.STALLED_CHECK_SECONDS)
    well = look_at_labels(bench, instance, again.cursor)

    assert len(counted) == 3
    assert [reported(one) for one in (first, late, again, well)] == [
        [True],
        [False],
        [],
        [True],
    ]
    assert late.asset_events[0].description == (
        "reviews: 1 tasks are waiting, and nothing was labeled for 8 days."
    )


def test_labels_are_counted_soon_if_the_clock_was_set_back(bench, instance):
    first = look_at_labels(bench, instance)
    bench.time.sleep(-86_400)
    bench.put("a.json", {"text": "a"})
    bench.load()
    second = look_at_labels(bench, instance, first.cursor)

    assert json.loads(second.cursor)["stalled_at"] == bench.time.now


def test_cursor_of_an_earlier_version_is_no_hindrance(bench, instance):
    assert look_at_labels(bench, instance, "2026-01-02T03:04:05.000000Z").cursor
