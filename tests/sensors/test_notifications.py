"""What notifications lead to, and that no message costs more than a few probes."""

import json
import threading

import dagster as dg
import pytest

from ls_pipeline.domain.errors import (
    BucketNotFoundError,
    LabelStudioUnavailableError,
    QueueUnavailableError,
)
from ls_pipeline.sensors import bucket_events, tick, webhook_events
from ls_pipeline.sensors import probes as looking
from ls_pipeline.sensors.notifications import (
    HEALTH_CHECK_SECONDS,
    ProbePools,
    Services,
    notifications_tick,
)
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT, Bench
from tests.contracts.memory_queue import MemoryQueue
from tests.domain.test_events import from_s3, record, through_sns
from tests.engine.test_load import Wrapped
from tests.sensors.test_sensors import add_run, wanted
from tests.sensors.test_sensors import look as scan

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/labels"


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger, notifications=QUEUE)


@pytest.fixture
def queue():
    return MemoryQueue(QUEUE)


@pytest.fixture
def look(bench, queue, instance):
    """Return a function that makes a tick."""

    def tick(cursor=None, bucket=None, opened=None, app=None, pools=None):
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        store = Counted(bucket or bench.bucket)
        tick.probed = store.probed
        opened = opened or (lambda _: queue)
        services = Services(lambda _: store, opened, app or bench.app)
        return notifications_tick(context, bench.ledger, services, pools)

    return tick


class Counted(Wrapped):
    """A bucket that remembers what was listed."""

    def __init__(self, bucket):
        super().__init__(bucket)
        self.probed = []

    def pages(self, prefix="", *rest):
        self.probed.append(prefix)
        return self._part.pages(prefix, *rest)


def said(result):
    return result.skip_reason.skip_message


def notify(queue, *keys, event="ObjectCreated:Put", etag="etag"):
    for key in keys:
        queue.send(json.dumps(from_s3(record(key, event, etag))))


def test_notification_of_a_new_object_requests_a_run_after_one_probe(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    (request,) = look().run_requests

    assert (request.partition_key, request.job_name) == ("reviews", "load_tasks")
    assert (look.probed, len(queue)) == (["a.json"], 0)


def test_notification_of_nothing_costs_one_probe_and_is_removed(bench, queue, look):
    notify(queue, "forged.json")

    assert said(look()) == "reviews: a notification arrived, but nothing changed."
    assert (look.probed, len(queue)) == (["forged.json"], 0)


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_changed_and_removed_objects_ask_for_a_run(bench, queue, look, change):
    bench.put("a.json", {"text": "a"})
    bench.load()
    if change == "replaced":
        bench.put("a.json", {"text": "b"})
        notify(queue, "a.json")
    else:
        bench.bucket.delete("a.json")
        notify(queue, "a.json", event="ObjectRemoved:Delete")

    assert wanted(look()) == ["reviews"]


def test_late_and_repeated_notifications_of_loaded_objects_cost_no_probe(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    bench.load()
    (known,) = bench.connection_ledger.objects.known()
    for _ in range(5):
        notify(queue, "a.json", etag=known.version)

    assert (said(look()), look.probed, len(queue)) == ("No notification of a change.", [], 0)


def test_many_notifications_end_with_the_first_that_differs(bench, queue, look):
    for n in range(100):
        bench.put(f"{n:03}.json", {"text": "a"})
        notify(queue, f"{n:03}.json")

    assert (wanted(look()), look.probed, len(queue)) == (["reviews"], ["099.json"], 0)


def test_forged_notifications_cost_a_bounded_number_of_probes(bench, queue, look):
    notify(queue, *(f"forged-{n}.json" for n in range(500)))
    result = look()

    assert wanted(result) == []
    assert (len(look.probed), len(queue)) == (bucket_events.KEYS_AT_MOST, 0)
    assert len(result.cursor) < 1000


def test_real_change_among_forged_ones_is_found_sooner_or_later(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    notify(queue, *(f"forged-{n}.json" for n in range(bucket_events.KEYS_AT_MOST)))
    first = look()

    assert (wanted(first), wanted(look(first.cursor))) == ([], ["reviews"])


@pytest.mark.parametrize("body", ["", "{", "[]", '{"Records": [{}]}', "\x00", "9" * 5000])
def test_invalid_message_is_removed_and_reported(queue, look, body):
    queue.send(body)
    result = look()

    assert f"reviews: a message was discarded from {QUEUE}: it " in said(result)
    assert (look.probed, len(queue)) == ([], 0)


def test_test_event_is_removed_without_a_report(queue, look):
    queue.send('{"Event": "s3:TestEvent"}')

    assert (said(look()), len(queue)) == ("No notification of a change.", 0)


def test_keys_that_a_connection_does_not_select_cost_no_probe(bench, queue, look):
    bench.set(notifications=QUEUE, prefix="in", regex="in/a")
    notify(queue, "out/a.json", "in/b.json", "in/a/")

    assert (said(look()), look.probed) == ("No notification of a change.", [])


@pytest.fixture
def listing(empty_ledger):
    """Return a bench whose manifest lists ``a.json``, which is loaded."""
    bench = Bench(empty_ledger, notifications=QUEUE, manifest="m.txt")
    bench.bucket.put("m.txt", b"a.json\nlater.json", "text/plain")
    bench.put("a.json", {"text": "a"})
    bench.load()
    return bench


def test_key_that_the_manifest_does_not_list_requests_no_run(queue, look, listing):
    listing.put("b.json", {"text": "b"})
    notify(queue, "b.json")

    assert said(look(bucket=listing.bucket)).endswith("arrived, but nothing changed.")
    assert len(queue) == 0


@pytest.mark.parametrize("key", ["a.json", "later.json"])
def test_key_that_the_manifest_lists_requests_a_run(queue, look, listing, key):
    listing.put(key, {"text": "new"})
    notify(queue, key)

    assert wanted(look(bucket=listing.bucket)) == ["reviews"]


@pytest.mark.parametrize("prefix", ["", "elsewhere"])
def test_new_manifest_requests_a_run(empty_ledger, queue, look, prefix):
    bench = Bench(empty_ledger, notifications=QUEUE, manifest="m.txt", prefix=prefix)
    bench.bucket.put("m.txt", b"elsewhere/a.json", "text/plain")
    bench.put("elsewhere/a.json", {"text": "a"})
    bench.load()
    stored = bench.bucket.put("m.txt", b"elsewhere/b.json", "text/plain")
    notify(queue, "m.txt")
    before = wanted(look(bucket=bench.bucket))
    bench.load()
    notify(queue, "m.txt", etag=stored.version)

    assert before == ["reviews"]
    assert said(look(bucket=bench.bucket)) == "No notification of a change."


def test_other_buckets_are_not_probed(queue, look):
    other = record("a.json")
    other["s3"]["bucket"]["name"] = "other"
    queue.send(json.dumps(through_sns(from_s3(other))))
    look()

    assert (look.probed, len(queue)) == ([], 0)


def other_connection(bench, queue=QUEUE, name="other", **params):
    source = {"type": "s3", "path": "bucket", "params": {"notifications": queue, **params}}
    one = build_connection(name, source=source, target=None, project="Other", label_config=CONFIG)
    bench.ledger.save(one, "test")


def test_shared_queue_is_read_once_and_wakes_those_whose_key_it_is(bench, queue, look):
    bench.set(notifications=QUEUE, prefix="in")
    other_connection(bench, prefix="else")
    bench.put("in/a.json", {"text": "a"})
    bench.put("else/a.json", {"text": "a"})
    notify(queue, "in/a.json", "else/a.json")

    assert sorted(wanted(look())) == ["other", "reviews"]


def test_queue_wakes_only_connections_that_name_it(bench, queue, look):
    other_connection(bench, queue=f"{QUEUE}-2")
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    own = MemoryQueue(f"{QUEUE}-2")

    def opened(source):
        return queue if source.params.notifications == QUEUE else own

    assert wanted(look(opened=opened)) == ["reviews"]


def test_connection_without_notifications_is_left_alone(bench, queue, look):
    bench.set()
    notify(queue, "a.json")

    assert (said(look()), len(queue)) == ("No connection has notifications.", 1)


def test_disabled_connection_is_left_alone(bench, queue, look):
    off = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"enabled": False}
    )
    bench.ledger.save(off, "test")

    assert said(look()) == "No connection has notifications."


@pytest.mark.parametrize("why", ["held", "under way", "failing"])
def test_event_of_a_connection_that_must_wait_is_kept(bench, queue, look, instance, why):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    if why == "held":
        with bench.connection_ledger.acquire():
            first = look()
    elif why == "under way":
        add_run(instance, dg.DagsterRunStatus.STARTING)
        first = look()
        instance.delete_run("1")
    else:
        bench.fail("tasks", "Label Studio is down.")
        first = look()
        bench.time.sleep(60)

    assert (wanted(first), look.probed, len(queue)) == ([], [], 0)
    assert wanted(look(first.cursor)) == ["reviews"]


def test_kept_event_that_a_run_dealt_with_costs_no_probe(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json", etag=next(bench.bucket.pages())[0].version)
    with bench.connection_ledger.acquire():
        first = look()
    bench.load()

    assert (said(look(first.cursor)), look.probed) == ("No notification of a change.", [])


def test_only_the_newest_events_are_kept(bench, queue, look):
    notify(queue, *(f"{n}.json" for n in range(50)))
    with bench.connection_ledger.acquire():
        first = look()
    look(first.cursor)

    assert look.probed == [f"{n}.json" for n in range(49, 49 - bucket_events.EVENTS_KEPT, -1)]


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "[]", "{}", '{"events": 1, "first_queue": ""}'),
        '{"events": {"a": [1]}, "first_queue": "", "first_bucket": "", "webhooks": {}}',
        '{"events": {}, "first_queue": "", "first_bucket": "", "webhooks": {"reviews": "x"}}',
    ],
)
def test_cursor_of_another_version_is_no_hindrance(bench, queue, look, cursor):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")

    assert wanted(look(cursor)) == ["reviews"]


def is_down(*_):
    raise QueueUnavailableError(QUEUE, "SQS does not answer; check the network.")


def test_queue_that_fails_is_said_and_holds_up_no_other(bench, queue, look):
    other_connection(bench, queue=f"{QUEUE}-2")
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    down = Wrapped(MemoryQueue(f"{QUEUE}-2"), receive=is_down)

    def opened(source):
        return queue if source.params.notifications == QUEUE else down

    assert wanted(look(opened=opened)) == ["reviews"]


def test_queue_that_fails_alone_is_the_skip_reason(queue, look):
    down = Wrapped(queue, receive=is_down)

    assert said(look(opened=lambda _: down)) == (
        f"reviews: {QUEUE}: SQS does not answer; check the network."
    )


def test_message_that_can_not_be_removed_comes_again_and_costs_nothing(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    first = look(opened=lambda _: Wrapped(queue, acknowledge=is_down))
    bench.load()

    assert (wanted(first), len(queue)) == (["reviews"], 1)
    assert wanted(look(first.cursor)) == []


def test_bucket_that_fails_is_said(bench, queue, look):
    def fail(*_):
        raise BucketNotFoundError("s3://bucket/")

    notify(queue, "a.json")

    assert "the bucket does not exist" in said(look(bucket=Wrapped(bench.bucket, pages=fail)))


def test_queues_that_the_time_did_not_suffice_for_are_the_first_of_the_next_tick(
    bench, queue, look, monkeypatch
):
    other_connection(bench, queue=f"{QUEUE}-2")
    monkeypatch.setattr(bucket_events, "READ_SECONDS", 0.0)
    first = look(opened=lambda source: MemoryQueue(source.params.notifications))

    assert json.loads(first.cursor)["backlog"]["first_queue"] == "reviews"


def test_messages_that_come_after_their_tick_count_in_the_next(bench, queue, look, monkeypatch):
    for name in ("PROBE_SECONDS", "GRACE_SECONDS"):
        monkeypatch.setattr(looking, name, 0.1)
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    gate, pools = threading.Event(), ProbePools()

    def receive(*asked):
        gate.wait()
        return queue.receive(*asked)

    slow = Wrapped(queue, receive=receive)
    late = look(opened=lambda _: slow, pools=pools)
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "reviews":
            thread.join()
    heard = look(late.cursor, opened=lambda _: slow, pools=pools)

    assert (wanted(late), wanted(heard), len(queue)) == ([], ["reviews"], 0)


def test_events_without_time_for_a_probe_are_kept(bench, queue, look, monkeypatch):
    names = [f"c{number:02}" for number in range(12)]
    for name in names:
        other_connection(bench, name=name, queue=QUEUE)
    for number in range(30):
        notify(queue, f"{number}.json")
    monkeypatch.setattr(tick, "TICK_SECONDS", 0.0)
    left = json.loads(look().cursor)["backlog"]

    assert {*left["events"]} == {"reviews", *names}
    assert left["first_bucket"] != ""


def test_change_whose_notification_is_lost_is_found_by_the_scan(bench, look, instance):
    bench.put("a.json", {"text": "a"})

    assert wanted(look()) == []
    assert wanted(scan(bench, instance)) == ["reviews"]


def test_sensor_changes_nothing_but_the_queue(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    look()

    assert (bench.app.tasks, list(bench.connection_ledger.objects.known())) == ({}, [])


# -- labels -------------------------------------------------------------------------------


@pytest.fixture
def labeled(bench):
    """Load a task whose label has a webhook."""
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.ledger.mark_webhook("reviews")
    return bench


def test_label_with_a_webhook_requests_an_export(labeled, look):
    (request,) = look().run_requests

    assert (request.partition_key, request.job_name) == ("reviews", "export_completions")


def test_label_is_asked_for_once(labeled, look):
    first = look()

    assert (wanted(first), wanted(look(first.cursor))) == (["reviews"], [])


def test_label_that_is_not_visible_yet_is_probed_again(bench, look):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.ledger.mark_webhook("reviews")
    early = look()
    bench.app.annotate(bench.task_id("a.json"), RESULT)

    assert said(early) == "reviews: a notification arrived, but nothing changed."
    assert wanted(look(early.cursor)) == ["reviews"]


def test_forged_webhook_costs_a_probe_or_two_and_no_run(bench, look):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.ledger.mark_webhook("reviews")
    bench.time.sleep(webhook_events.LABEL_DELAY_SECONDS)
    first = look()

    assert (wanted(first), said(look(first.cursor))) == ([], "No notification of a change.")


def test_webhook_of_a_later_time_is_probed_once(bench, look):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.export()
    bench.ledger.mark_webhook("reviews")
    bench.time.sleep(-60)

    assert said(look(look().cursor)) == "No notification of a change."


def test_webhook_is_noticed_if_the_clock_was_set_back(labeled, look):
    first = look()
    labeled.export()
    labeled.time.sleep(-60)
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    labeled.ledger.mark_webhook("reviews")

    assert wanted(look(first.cursor)) == ["reviews"]


def test_label_with_a_webhook_during_a_run_waits_for_its_end(labeled, look):
    with labeled.connection_ledger.acquire():
        first = look()

    assert (wanted(first), "is working on it" in said(first)) == ([], True)
    assert wanted(look(first.cursor)) == ["reviews"]


def test_connection_that_needs_both_gets_one_run_after_the_other(labeled, queue, look, instance):
    labeled.put("b.json", {"text": "b"})
    notify(queue, "b.json")
    first = look()
    labeled.load()
    second = look(first.cursor)

    assert [one.job_name for one in (*first.run_requests, *second.run_requests)] == [
        "load_tasks",
        "export_completions",
    ]


@pytest.mark.parametrize("without", ["a target", "a project"])
def test_webhook_of_a_connection_without_exports_costs_no_probe(bench, look, without):
    if without == "a target":
        other_connection(bench)
    bench.ledger.mark_webhook("reviews" if without == "a project" else "other")

    assert said(look()) == "No notification of a change."


def test_label_studio_that_fails_is_said_and_left_to_the_polls(labeled, look):
    def fail(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    first = look(app=Wrapped(labeled.app, count_annotations=fail))

    assert said(first) == "reviews: Label Studio does not answer."
    assert wanted(look(first.cursor)) == []


def test_webhook_of_a_removed_connection_is_ignored(labeled, look):
    labeled.ledger.remove("reviews")

    assert said(look()) == "No connection has notifications."


def test_change_that_a_notification_led_to_is_recorded(bench, queue, look):
    bench.put("a.json", {"text": "a"})
    notify(queue, "a.json")
    look()
    (status,) = bench.ledger.statuses()

    assert {work: seen.since for work, seen in status.seen_changes.items()} == {
        "tasks": bench.time.now
    }


def test_failing_connections_are_reported_once_and_again_when_they_are_well(bench, look):
    other = Bench(bench.ledger, name="other")
    bench.time = other.time
    bench.fail("tasks", "It is down.")
    first = look()
    bench.time.sleep(HEALTH_CHECK_SECONDS)
    again = look(first.cursor)
    other.fail("tasks", "<b>It</b> is gone.")
    bench.time.sleep(HEALTH_CHECK_SECONDS)
    both = look(again.cursor)
    bench.succeed("tasks")
    other.succeed("tasks")
    bench.time.sleep(HEALTH_CHECK_SECONDS)
    well = look(both.cursor)
    reported = [
        [(check.passed, check.description) for check in result.asset_events]
        for result in (first, again, both, well)
    ]

    assert reported == [
        [(False, "reviews: `It is down.`")],
        [],
        [(False, "other: `<b>It</b> is gone.`\n\nreviews: `It is down.`")],
        [(True, "No connection is failing.")],
    ]


def test_dagster_stores_each_result_of_the_check(bench, look, instance):
    bench.fail("tasks", "It is down.")
    first = look()
    bench.succeed("tasks")
    bench.time.sleep(HEALTH_CHECK_SECONDS)
    second = look(first.cursor)
    bench.fail("tasks", "It is down again.")
    bench.time.sleep(HEALTH_CHECK_SECONDS)
    results = first, second, look(second.cursor)
    for check in (each for result in results for each in result.asset_events):
        instance.report_runless_asset_event(check)
    newest = instance.event_log_storage.get_asset_check_execution_history(check.asset_check_key, 9)

    assert [each.status.value for each in newest] == ["FAILED", "SUCCEEDED", "FAILED"]


def test_disabled_connection_fails_no_check(bench, look):
    bench.fail("tasks", "It is down.")
    connection = bench.connection_ledger.settings.in_force().connection
    bench.ledger.save(connection.model_copy(update={"enabled": False}), "test")

    assert [check.passed for check in look().asset_events] == [True]
