"""What sensors record: the same on either database, and written only if it changed."""

from ls_pipeline.resources.ledger.records import QUEUE, FailedLook, SeenChange
from ls_pipeline.settings.validation import build_connection


def save(ledger, *names):
    for name in names:
        source = {"type": "s3", "path": name}
        ledger.save(build_connection(name, source=source, target=None, project=name), "test")


def read(ledger):
    return {status.name: (status.failed_looks, status.seen_changes) for status in ledger.statuses()}


def test_failed_look_keeps_its_first_time_until_one_succeeds(ledger):
    save(ledger, "cats", "dogs")
    ledger.record_looks("tasks", {"cats": "It is gone.", "dogs": "It is gone.", "unknown": "x"})
    first = read(ledger)["cats"][0]["tasks"]
    ledger.record_looks("tasks", {"cats": "It is refused.", "dogs": ""})
    later = read(ledger)

    assert first.failure == "It is gone."
    assert later["cats"][0] == {"tasks": FailedLook("It is refused.", first.since)}
    assert later["dogs"][0] == {}


def test_change_keeps_its_first_time_and_its_largest_count(ledger):
    save(ledger, "cats", "dogs")
    ledger.record_changes("tasks", {"cats": 2, "dogs": 0})
    first = read(ledger)["cats"][1]["tasks"]
    ledger.record_changes("tasks", {"cats": 5, "dogs": None})
    ledger.record_changes("tasks", {"cats": 1})
    later = read(ledger)

    assert first.objects == 2
    assert later["cats"][1] == {"tasks": SeenChange(5, first.since)}
    assert later["dogs"][1] == {}


def test_success_forgets_what_was_seen_of_that_work_and_of_the_queue(ledger):
    save(ledger, "cats")
    for work in ("tasks", "completions", QUEUE):
        ledger.record_looks(work, {"cats": "It fails."})
        ledger.record_changes(work, {"cats": 1})
    with ledger.acquire("cats") as held:
        held.health.record_success("tasks")
    looks, changes = read(ledger)["cats"]

    assert looks.keys() == {"completions"}
    assert "tasks" not in changes


def test_tick_is_recorded_once_a_minute_until_it_is_forgotten(ledger):
    recorded = [ledger.ticks.record("s3_objects", 30) for _ in range(3)]
    ledger.ticks.forget({"s3_objects"})

    assert recorded == [True, False, False]
    assert ledger.ticks.record("s3_objects", 30)


def test_other_interval_of_a_sensor_is_recorded_at_once(ledger):
    assert ledger.ticks.record("s3_objects", 30)
    assert ledger.ticks.record("s3_objects", 3600)
