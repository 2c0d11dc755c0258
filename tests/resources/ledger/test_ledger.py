import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.errors import (
    InvalidConnectionError,
    LeaseError,
    LeaseLostError,
    LedgerError,
    UnknownConnectionError,
)
from ls_pipeline.domain.listing_ranges import RangeBoundary
from ls_pipeline.domain.objects import Filter
from ls_pipeline.resources.labeling_app import Project
from ls_pipeline.resources.ledger.health import RETRY_UNDECIDED, is_waiting, retry_delay
from ls_pipeline.resources.ledger.intents import LOOK_SECONDS
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import (
    Binding,
    BoundProject,
    Exported,
    Health,
    Intent,
    Kind,
    LedgerUpdate,
    Quarantined,
    TaskRow,
)
from ls_pipeline.resources.ledger.tables import objects
from ls_pipeline.settings.validation import build_connection


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(database_url, clock):
    ledger = Ledger(database_url, clock)
    yield ledger
    ledger.close()


def make(name="c", bucket="b", project="Cats", **params):
    source = {"type": "s3", "path": bucket, "params": params}
    return build_connection(name, source=source, target=None, project=project)


@pytest.fixture
def connection_ledger(ledger):
    ledger.save(make(), "test")
    return ledger.connection_ledger("c")


def test_saved_connection_comes_back(ledger):
    ledger.save(make(prefix="a"), "me")

    assert ledger.connection("c") == make(prefix="a")


def test_same_settings_are_no_new_revision(ledger):
    numbers = [ledger.save(make(prefix=prefix), "me") for prefix in ("a", "a", "b")]

    assert numbers == [1, 1, 2]


def test_revision_says_who_and_when(connection_ledger, clock):
    revision = connection_ledger.settings.in_force()

    assert (revision.saved_by, revision.saved_at) == ("test", clock.now)


def test_unknown_connection_names_those_that_exist(ledger, connection_ledger):
    with pytest.raises(UnknownConnectionError, match=r"no connection 'x'\. Connections: c"):
        ledger.connection_ledger("x")


def test_removed_connection_is_gone_from_the_list(ledger, connection_ledger):
    ledger.remove("c")

    assert ledger.names() == []


def test_removed_connection_that_comes_back_has_its_records(ledger, connection_ledger):
    ledger.remove("c")
    ledger.save(make(prefix="other"), "test")

    assert ledger.connection_ledger("c").id == connection_ledger.id


def test_removed_name_for_another_bucket_starts_without_records(ledger, connection_ledger):
    ledger.remove("c")
    ledger.save(make(bucket="other"), "test")

    assert ledger.connection_ledger("c").id != connection_ledger.id


def test_removed_connection_does_not_replace_the_one_in_use(ledger, connection_ledger):
    ledger.remove("c")
    ledger.save(make(bucket="other"), "test")
    ledger.remove("c")
    ledger.save(make(), "test")
    ledger.save(make(bucket="other"), "test")

    assert (ledger.names(), ledger.connection_ledger("c").id) == (["c"], connection_ledger.id)


def known(key, state=State.LOADED):
    return KnownObject(key, "v", 1, state)


def keys_of(records):
    return [record.key for record in records]


def test_connection_with_tasks_can_not_move_to_another_bucket(ledger, connection_ledger):
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=[known("a")]))
    with pytest.raises(InvalidConnectionError, match="another source bucket"):
        ledger.save(make(bucket="other"), "test")
    assert ledger.connection("c").source.path == "b"


def test_connection_that_loaded_nothing_moves_and_fences_the_run_that_would(
    ledger, connection_ledger
):
    with connection_ledger.acquire() as held:
        ledger.save(make(bucket="other", project="Dogs"), "test")
        with pytest.raises(LeaseLostError):
            held.intents.record(LedgerUpdate(finished=[known("a")]))

    assert (ledger.connection_ledger("c").id, ledger.connection("c").source.path) == (
        connection_ledger.id,
        "other",
    )


def test_source_that_was_taken_away_and_comes_back_is_the_same(ledger, connection_ledger):
    target = {"type": "s3-completions", "path": "labels"}
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=[known("a")]))
    ledger.save(build_connection("c", source=None, target=target, project="Cats"), "test")
    with pytest.raises(InvalidConnectionError, match="another source bucket"):
        ledger.save(make(bucket="other"), "test")
    ledger.save(make(), "test")

    assert ledger.connection_ledger("c").id == connection_ledger.id


def test_released_objects_leave_quarantine_and_count_as_changed(connection_ledger):
    places = (("a", None), ("b", 1))
    quarantined = [Quarantined(key, row, "v", "bad", "json") for key, row in places]
    finished = [known("a", State.QUARANTINED), known("b"), known("c")]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(quarantined=quarantined, finished=finished))
        retryable = held.objects.quarantined_keys(not_read_as="json")
        held.objects.release(held.objects.quarantined_keys(not_read_as="blob image"))

    records = connection_ledger.objects
    assert (retryable, records.quarantined()) == ([], [])
    assert [(item.key, item.version) for item in records.known()] == [("b", ""), ("c", "v")]


@given(st.lists(st.text(st.sampled_from("\x00\x01\x02ab"), max_size=5), max_size=5))
def test_keys_keep_their_order_and_prefixes_if_nul_is_escaped(keys):
    dialect = postgresql.dialect()
    column = objects.c.key.type.dialect_impl(dialect)
    stored = {key: column.process_bind_param(key, dialect) for key in keys}

    assert [column.process_result_value(text, dialect) for text in stored.values()] == list(stored)
    assert "\x00" not in "".join(stored.values())
    assert sorted(stored, key=stored.get) == sorted(stored)
    for key, prefix in itertools.product(stored, stored):
        assert key.startswith(prefix) == stored[key].startswith(stored[prefix])


def test_keys_with_control_characters_are_like_any_other(connection_ledger):
    keys = ["a\x00", "a\x00b", "a\x01", "a\x02", "a\x7f", "a\u2028", "b"]
    rows = [TaskRow(key, 0, "v", "d") for key in keys]
    with connection_ledger.acquire() as held:
        held.intents.begin(import_of(*rows))
        held.intents.record(LedgerUpdate(loaded=rows, finished=list(map(known, keys))))
        held.intents.record(LedgerUpdate(forgotten=["a\x00b"]))

    records = connection_ledger.objects
    assert keys_of(records.known("a\x00")) == ["a\x00"]
    assert keys_of(records.known("", "a\x00")) == keys[2:]
    assert records.rows_of("a\x00")[0] == rows[0]
    assert connection_ledger.intents.open()[0].rows == tuple(rows)


def test_key_that_utf_8_can_not_encode_is_refused_in_a_sentence(connection_ledger):
    with (
        connection_ledger.acquire() as held,
        pytest.raises(LedgerError, match="surrogates not allowed"),
    ):
        held.intents.record(LedgerUpdate(finished=[known("a\ud800")]))


def test_reason_that_quotes_what_no_database_takes_is_kept_readable(connection_ledger):
    quarantined = [Quarantined("a", 0, "v", "no \x00, no \ud800", "json")]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(quarantined=quarantined))

    assert connection_ledger.objects.quarantined()[0].reason == r"no \x00, no \ud800"


def test_known_objects_are_found_by_their_exact_keys(connection_ledger):
    keys = ["a", "a b+%", "a\x00", "é", "ab"]
    finished = list(map(known, keys))
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=finished))
    wanted = [*keys[:-1], *(f"absent-{n}" for n in range(2000))]

    assert connection_ledger.objects.known_at(wanted) == {item.key: item for item in finished[:-1]}
    assert connection_ledger.objects.known_at([]) == {}


def test_webhook_times_are_of_connections_in_use(ledger, connection_ledger, clock):
    ledger.save(make("d"), "test")
    ledger.save(make("e"), "test")
    for name in ("c", "d", "absent"):
        ledger.mark_webhook(name)
        clock.now += 1
    ledger.mark_webhook("c")
    ledger.remove("d")

    assert ledger.webhook_times() == {"c": clock.now}


def test_known_objects_come_in_byte_order_within_prefix_and_bounds(connection_ledger):
    keys = ["a/é", "a/z", "a/Z", "a/\U0001f600", "a/\uffee", "ab", "b/1"]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=list(map(known, keys))))

    within = sorted((key for key in keys if key.startswith("a/")), key=str.encode)
    assert keys_of(connection_ledger.objects.known("a/")) == within
    assert keys_of(connection_ledger.objects.known("a/", within[0])) == within[1:]


HOSTILE = sorted(
    {
        *("\x00", "\x00\x00", "\x01", "\x01\x01", "\x01\x02", "\x02", "a\x00", "a\x00b", "a\x01b"),
        *("A", "a", "B", "b", "Z", "z", "ä", "Ä", "a\u0308", "é", "e\u0301", "ß", "ss", "ﬁ", "fi"),
        *("i", "I", "\u0131", "İ", "9", "10", "a b", "a-b", "a_b", "ab", "a/b", "a//b", "/", " "),
        *("-", "%", "a%", "_", "\\", "'", '"', "\x7f", "\u200b", "\u2028", "\ufeff", "\ud7ff"),
        *("\ue000", "\uffff", "\U00010000", "\U0001f600", "\U0010ffff", "日本", "日", "\u0627"),
        *("א", "n" * 1024),
    },
    key=str.encode,
)
"""Keys that some locale, some encoding or some pattern would put elsewhere, in byte order."""


def test_hostile_keys_come_in_byte_order_from_wherever_and_are_counted(connection_ledger):
    quarantined = [Quarantined(key, None, "w", "bad", "json") for key in HOSTILE]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=list(map(known, reversed(HOSTILE)))))
        held.objects.set_range_boundaries(Filter(), list(map(RangeBoundary, HOSTILE)))
        held.intents.record(LedgerUpdate(quarantined=quarantined))

    records = connection_ledger.objects
    assert keys_of(records.known()) == HOSTILE
    assert keys_of(records.range_boundaries(Filter())) == HOSTILE
    assert keys_of(records.quarantined()) == HOSTILE
    assert records.quarantined_keys(not_read_as="blob") == HOSTILE
    for at, key in enumerate(HOSTILE):
        within = [other for other in HOSTILE if other.startswith(key)]
        assert keys_of(records.known(after=key)) == HOSTILE[at + 1 :]
        assert keys_of(records.known(key)) == within
        assert records.count(key)[State.LOADED] == len(within), repr(key)


def test_of_what_is_recorded_twice_the_last_counts(connection_ledger):
    rows = [TaskRow("a", 0, "v", "d", number) for number in (1, 2)]
    with connection_ledger.acquire() as held:
        finished = [known("a", State.BEGUN), known("b"), known("a")]
        held.intents.record(LedgerUpdate(loaded=rows, finished=finished))

    assert connection_ledger.objects.rows_of("a")[0].task_id == 2
    assert [item.state for item in connection_ledger.objects.known()] == [State.LOADED] * 2


def test_rows_whose_tasks_are_deleted_are_dropped_one_by_one(connection_ledger):
    rows = [TaskRow(key, row, "v", "d", row) for key in "ab" for row in range(3)]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(loaded=rows))
        held.intents.record(LedgerUpdate(dropped=[rows[0], rows[5]]))

    remaining = connection_ledger.objects.few_rows_of(["a", "b"])
    assert remaining == {"a": rows[1:3], "b": rows[3:5]}


def test_quarantine_of_other_versions_is_dropped(connection_ledger):
    quarantined = [Quarantined(key, 0, "v", "bad", "json") for key in "abc"]
    finished = [known("a"), KnownObject("b", "w", 1, State.LOADED)]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(quarantined=quarantined))
        held.intents.record(LedgerUpdate(finished=finished))
        held.intents.record(LedgerUpdate(finished=[known("c", State.REMOVED)]))

    assert keys_of(connection_ledger.objects.quarantined()) == ["a"]


def test_range_boundaries_are_listed_after_a_key(connection_ledger):
    boundaries = [RangeBoundary(key, "print", 3, 1) for key in ("a/\x01", "a/1", "a/2", "b")]
    everything, folder = Filter(), Filter("a")
    with connection_ledger.acquire() as held:
        held.objects.set_range_boundaries(everything, [RangeBoundary("gone")])
        held.objects.set_range_boundaries(everything, boundaries)

    records = connection_ledger.objects
    assert records.range_boundaries(everything) == boundaries
    assert keys_of(records.range_boundaries(folder)) == ["a/\x01", "a/1", "a/2"]
    assert keys_of(records.range_boundaries(folder, "a/1")) == ["a/2"]


def test_fingerprints_are_of_a_filter(connection_ledger):
    with connection_ledger.acquire() as held:
        held.objects.set_range_boundaries(Filter("a", "b"), [RangeBoundary("a/1", "print", 3)])

    records = connection_ledger.objects
    assert records.range_boundaries(Filter("a", "b")) == [RangeBoundary("a/1", "print", 3)]
    assert records.range_boundaries(Filter("a", "")) == [RangeBoundary("a/1")]


def test_what_is_recorded_of_a_range_takes_its_fingerprint(connection_ledger):
    boundaries = [RangeBoundary(key, "print", 9) for key in ("b", "d", "f", "h")]
    expected = {"a": ["d", "f", "h"], "c": ["b", "h"], "i": ["b", "d", "f", "h"]}
    with connection_ledger.acquire() as held:
        for touched in (["a"], ["c", "f"], ["i"]):
            held.objects.set_range_boundaries(Filter(), boundaries)
            held.intents.record(LedgerUpdate(finished=list(map(known, touched))))
            after = held.objects.range_boundaries(Filter())
            left = [boundary.key for boundary in after if boundary.fingerprint]
            assert left == expected[touched[0]]


def import_of(*rows, **fields):
    """Return an intent to import rows."""
    return Intent(Kind.IMPORT, rows, "s3://bucket/", 1, **fields)


def test_intent_is_open_until_its_outcome_is_recorded(connection_ledger):
    with connection_ledger.acquire() as held:
        begun, generation = held.intents.begin(import_of(TaskRow("a", 0, "v", "d"), above=40))
        found, state = connection_ledger.intents.open(), list(connection_ledger.objects.known())
        held.intents.record(LedgerUpdate(loaded=[TaskRow("a", 0, "v", "d", 41)]), closing=begun)

    assert (found, state) == ([begun], [KnownObject("a", "", 0, State.BEGUN)])
    assert connection_ledger.intents.open() == []
    assert generation == connection_ledger.binding.state().generation == 1
    assert connection_ledger.objects.rows_of("a")[0].task_id == 41


def test_objects_of_an_intent_are_unfinished_whatever_their_version(connection_ledger):
    rows = [TaskRow("a", 0, "v", "d", 1)]
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(loaded=rows, finished=[known("a")]))
        held.intents.begin(Intent(Kind.DELETE, tuple(rows), "s3://bucket/", 1))

    (after,) = connection_ledger.objects.known()
    assert (after.version, after.state) == ("", State.LOADED)


def test_intent_is_looked_for_and_dropped_in_the_end(connection_ledger, clock):
    with connection_ledger.acquire() as held:
        intents = held.intents
        intents.begin(import_of(TaskRow("a", 0, "v", "d")))
        waits = []
        while intents.open():
            assert intents.is_look_due(Kind.IMPORT)
            intents.keep_open(intents.open()[0])
            if not waits:  # a look before its time changes nothing
                intents.keep_open(intents.open()[0])
            began = clock.now
            while intents.open() and not intents.is_look_due(Kind.IMPORT):
                clock.now += 10
            waits.append(clock.now - began)

    assert waits == [*LOOK_SECONDS, 0]
    assert sum(LOOK_SECONDS) >= 7200


def test_look_is_due_if_the_clock_was_set_back(connection_ledger, clock):
    with connection_ledger.acquire() as held:
        held.intents.begin(import_of(TaskRow("a", 0, "v", "d")))
        held.intents.keep_open(held.intents.open()[0])
        due = [held.intents.is_look_due(Kind.IMPORT)]
        clock.now -= 86_400
        due.append(held.intents.is_look_due(Kind.IMPORT))

    assert due == [False, True]


def test_second_holder_is_refused(connection_ledger):
    with (
        connection_ledger.acquire(),
        pytest.raises(LeaseError, match="worked on by"),
        connection_ledger.acquire(),
    ):
        pass


def test_lease_is_free_after_its_block(connection_ledger):
    with connection_ledger.acquire():
        pass
    with connection_ledger.acquire() as held:
        assert held.fence.number == 2


def test_expired_lease_is_taken_over_and_fences_its_holder_off(connection_ledger, clock):
    with connection_ledger.acquire() as slept:
        clock.now += LEASE_SECONDS + 1
        with connection_ledger.acquire(), pytest.raises(LeaseLostError):
            slept.intents.record(LedgerUpdate(loaded=[TaskRow("a", 0, "v", "d", 1)]))

    assert connection_ledger.objects.rows_of("a") == {}


@pytest.mark.slow
def test_lease_of_a_dead_process_is_taken_over_at_once(database_url, connection_ledger):
    script = (
        "import os, sys\n"
        "from ls_pipeline.resources.ledger.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1], lambda: 1_000_000.0)\n"
        "with ledger.acquire('c'):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, database_url], check=False, env=dict(os.environ))

    with connection_ledger.acquire() as held:
        assert held.fence.number == 2


def test_failures_wait_longer_each_time_and_recovery_forgets_them(connection_ledger, clock):
    with connection_ledger.acquire() as held:
        failures = [held.health.record_failure("tasks", "down") for _ in range(3)]
        held.health.record_success("tasks")
    waits = [failure.retry_at - clock.now for failure in failures]

    assert (waits, connection_ledger.health.of("tasks").failures) == ([30.0, 60.0, 120.0], 0)


def test_work_of_one_kind_does_not_hide_the_failures_of_another(connection_ledger):
    with connection_ledger.acquire() as held:
        held.health.record_failure("completions", "down")
        held.health.record_success("tasks")

    assert connection_ledger.health.of("completions").failure == "down"


@pytest.mark.parametrize("failures", [8, 1000, 100_000])
def test_no_wait_is_longer_than_an_hour(failures):
    assert retry_delay(failures) == 3600.0


def fail_undecided(held):
    held.health.record_success("tasks")
    for work in ("tasks", "completions"):
        held.health.record_failure(work, "It is another project.", needs_decision=work == "tasks")


def test_person_who_has_to_decide_has_a_day(connection_ledger, clock):
    with connection_ledger.acquire() as held:
        fail_undecided(held)
    health = connection_ledger.health.of("tasks")

    assert (health.needs_decision, health.retry_at) == (True, clock.now + RETRY_UNDECIDED)
    assert [is_waiting(health, clock.now + later) for later in (-1, 0, 86_399, 86_400)] == [
        False,
        True,
        True,
        False,
    ]


def test_decision_is_tried_at_once(connection_ledger, clock):
    with connection_ledger.acquire() as held:
        fail_undecided(held)
        held.health.forget_undecided()
    decided, other = (connection_ledger.health.of(work) for work in ("tasks", "completions"))

    assert decided == Health(passed_at=clock.now)
    assert (other.failures, other.failure) == (1, "It is another project.")


def test_other_settings_are_tried_at_once(ledger, connection_ledger, clock):
    with connection_ledger.acquire() as held:
        fail_undecided(held)
    ledger.save(make(), "test")
    same = connection_ledger.health.of("tasks").retry_at
    ledger.save(make(prefix="in"), "test")
    decided, other = (connection_ledger.health.of(work) for work in ("tasks", "completions"))

    assert (same, decided.retry_at) == (clock.now + RETRY_UNDECIDED, 0.0)
    assert (decided.failure, other.retry_at) == ("It is another project.", clock.now + 30)


def project(number):
    return Project(number, f"Cats ({number})", "", 0, "", f"2026-01-0{number}")


def test_connection_is_bound_to_other_projects(connection_ledger):
    with connection_ledger.acquire() as held:
        held.projects.add({1: project(1), 2: project(2)})
        held.projects.set_marked(2)
        held.binding.confirm_app(3)
        held.binding.verify_tasks()
        held.binding.bind({2: project(2), 3: project(3)}, 7)

    assert connection_ledger.projects.bound() == {
        2: BoundProject(2, "2026-01-02"),
        3: BoundProject(3, "2026-01-03"),
    }
    assert connection_ledger.binding.state() == Binding(7, 0, 0, "", False, False)


def test_files_that_are_left_alone_count_no_more_and_stay_so(connection_ledger):
    written = [Exported(number, "2026", "digest", f"s3://l/{number}.json", 2) for number in (1, 2)]
    with connection_ledger.acquire() as held:
        held.exports.record(written)
        before = held.exports.snapshot_state().changes
        held.exports.leave([1])
        held.exports.reopen_all([])
    exports = connection_ledger.exports

    assert (list(exports.living()), exports.unfinished(), exports.task_ids_written()) == (
        [2],
        [2],
        {1, 2},
    )
    assert (exports.count(), exports.snapshot_state().changes) == ((1, 2), before + 1)


def test_another_target_means_reading_all_completions_again(ledger):
    def with_target(prefix):
        target = {"type": "s3-completions", "path": "l", "params": {"prefix": prefix}}
        return build_connection("t", source=None, target=target, project="Cats")

    ledger.save(with_target("a"), "test")
    connection_ledger = ledger.connection_ledger("t")
    with connection_ledger.acquire() as held:
        held.exports.record_polled(with_target("a").target, RecentChanges("2026", 3, "2027"), 0, 0)
    polled = connection_ledger.exports.polled()
    ledger.save(with_target("b"), "test")

    assert polled == RecentChanges("2026", 3, "2027")
    assert connection_ledger.exports.polled().since == ""
