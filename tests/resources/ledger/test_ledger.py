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
from ls_pipeline.resources.ledger.connection import retry_delay
from ls_pipeline.resources.ledger.imports import LOOKS
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import LoadedRow, Quarantined
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
    ledger.engine.dispose()


def make(name="c", bucket="b", project="Cats", **params):
    source = {"type": "s3", "path": bucket, "params": params}
    return build_connection(name, source=source, target=None, project=project)


@pytest.fixture
def account(ledger):
    ledger.save(make(), "test")
    return ledger.account("c")


def test_saved_connection_comes_back(ledger):
    ledger.save(make(prefix="a"), "me")

    assert ledger.connection("c") == make(prefix="a")


def test_same_settings_are_no_new_revision(ledger):
    numbers = [ledger.save(make(prefix=prefix), "me") for prefix in ("a", "a", "b")]

    assert numbers == [1, 1, 2]


def test_revision_says_who_and_when(account, clock):
    revision = account.revision()

    assert (revision.saved_by, revision.saved_at) == ("test", clock.now)


def test_unknown_connection_names_those_that_exist(ledger, account):
    with pytest.raises(UnknownConnectionError, match="no connection 'x'; there are: c"):
        ledger.account("x")


def test_removed_connection_is_gone_from_the_list(ledger, account):
    ledger.remove("c")

    assert ledger.names() == []


def test_removed_connection_that_comes_back_has_its_account(ledger, account):
    ledger.remove("c")
    ledger.save(make(prefix="other"), "test")

    assert ledger.account("c").id == account.id


def test_removed_name_for_another_bucket_is_a_new_account(ledger, account):
    ledger.remove("c")
    ledger.save(make(bucket="other"), "test")

    assert ledger.account("c").id != account.id


def test_removed_account_does_not_come_back_beside_the_one_in_use(ledger, account):
    ledger.remove("c")
    ledger.save(make(bucket="other"), "test")
    ledger.remove("c")
    ledger.save(make(), "test")
    ledger.save(make(bucket="other"), "test")

    assert (ledger.names(), ledger.account("c").id) == (["c"], account.id)


def known(key, state=State.LOADED):
    return KnownObject(key, "v", 1, state)


def test_connection_with_tasks_can_not_move_to_another_bucket(ledger, account):
    with account.lease() as lease:
        account.record(lease, finished=[known("a")])
    with pytest.raises(InvalidConnectionError, match="another source bucket"):
        ledger.save(make(bucket="other"), "test")
    assert ledger.connection("c").source.path == "b"


def test_connection_that_loaded_nothing_moves_and_fences_the_run_that_would(ledger, account):
    with account.lease() as lease:
        ledger.save(make(bucket="other", project="Dogs"), "test")
        with pytest.raises(LeaseLostError):
            account.record(lease, finished=[known("a")])

    assert (ledger.account("c").id, ledger.connection("c").source.path) == (account.id, "other")


def test_source_that_was_taken_away_and_comes_back_is_the_same(ledger, account):
    target = {"type": "s3-completions", "path": "labels"}
    with account.lease() as lease:
        account.record(lease, finished=[known("a")])
    ledger.save(build_connection("c", source=None, target=target, project="Cats"), "test")
    with pytest.raises(InvalidConnectionError, match="another source bucket"):
        ledger.save(make(bucket="other"), "test")
    ledger.save(make(), "test")

    assert ledger.account("c").id == account.id


def test_freed_objects_leave_quarantine_and_look_changed(account):
    rejections = [Quarantined(key, row, "v", "bad", "json") for key, row in (("a", None), ("b", 1))]
    with account.lease() as lease:
        some = [known("a", State.QUARANTINED), known("b"), known("c")]
        account.record(lease, rejections=rejections, finished=some)
        kept = account.outlived_quarantine("json")
        account.free(lease, account.outlived_quarantine("blob image"))

    assert (kept, account.quarantined()) == ([], [])
    assert [(one.key, one.version) for one in account.known()] == [("b", ""), ("c", "v")]


@given(st.lists(st.text(st.sampled_from("\x00\x01\x02ab"), max_size=5), max_size=5))
def test_keys_keep_their_order_and_prefixes_where_nul_is_escaped(keys):
    dialect = postgresql.dialect()
    kept = objects.c.key.type.dialect_impl(dialect)
    stored = {key: kept.process_bind_param(key, dialect) for key in keys}

    assert [kept.process_result_value(one, dialect) for one in stored.values()] == list(stored)
    assert "\x00" not in "".join(stored.values())
    assert sorted(stored, key=stored.get) == sorted(stored)
    for one, other in itertools.product(stored, stored):
        assert one.startswith(other) == stored[one].startswith(stored[other])


def test_keys_with_control_characters_are_like_any_other(account):
    keys = ["a\x00", "a\x00b", "a\x01", "a\x02", "a\x7f", "a\u2028", "b"]
    rows = [LoadedRow(key, 0, "v", "d") for key in keys]
    with account.lease() as lease:
        account.open_attempt(lease, 1, 0, rows)
        account.record(lease, loaded=rows, finished=map(known, keys))
        account.record(lease, forgotten=["a\x00b"])

    assert [one.key for one in account.known("a\x00")] == ["a\x00"]
    assert [one.key for one in account.known("", "a\x00")] == keys[2:]
    assert account.rows_of("a\x00")[0] == rows[0]
    assert account.attempts()[0].rows == tuple(rows)


def test_key_that_no_utf_8_can_say_is_refused_in_a_sentence(account):
    with account.lease() as lease, pytest.raises(LedgerError, match="surrogates not allowed"):
        account.record(lease, finished=[known("a\ud800")])


def test_reason_that_quotes_what_no_database_takes_is_kept_readable(account):
    with account.lease() as lease:
        account.record(lease, rejections=[Quarantined("a", 0, "v", "no \x00, no \ud800", "json")])

    assert account.quarantined()[0].reason == r"no \x00, no \ud800"


def test_known_objects_are_given_by_their_exact_keys(account):
    keys = ["a", "a b+%", "a\x00", "é", "ab"]
    known = [KnownObject(key, "v", 1, State.LOADED) for key in keys]
    with account.lease() as lease:
        account.record(lease, finished=known)
    asked = [*keys[:-1], *(f"absent-{n}" for n in range(2000))]

    assert account.known_at(asked) == {one.key: one for one in known[:-1]}
    assert account.known_at([]) == {}


def test_hints_are_told_of_connections_in_use(ledger, account, clock):
    ledger.save(make("d"), "test")
    ledger.save(make("e"), "test")
    for name in ("c", "d", "absent"):
        ledger.hint(name)
        clock.now += 1
    ledger.hint("c")
    ledger.remove("d")

    assert ledger.hinted() == {"c": clock.now}


def test_known_objects_come_in_byte_order_within_prefix_and_bounds(account):
    keys = ["a/é", "a/z", "a/Z", "a/\U0001f600", "a/\uffee", "ab", "b/1"]
    with account.lease() as lease:
        some = [KnownObject(key, "v", 1, State.LOADED) for key in keys]
        account.record(lease, finished=some)

    within = sorted((key for key in keys if key.startswith("a/")), key=str.encode)
    assert [one.key for one in account.known("a/")] == within
    assert [one.key for one in account.known("a/", within[0])] == within[1:]


HOSTILE = sorted(
    {
        *("\x00", "\x00\x00", "\x01", "\x01\x01", "\x01\x02", "\x02", "a\x00", "a\x00b", "a\x01b"),
        *("A", "a", "B", "b", "Z", "z", "ä", "Ä", "a\u0308", "é", "e\u0301", "ß", "ss", "ﬁ", "fi"),
        *(
            "i",
            "I",
            "\u0131",
            "İ",
            "9",
            "10",
            "a b",
            "a-b",
            "a_b",
            "ab",
            "a/b",
            "a//b",
            "/",
            " ",
            "-",
        ),
        *("%", "a%", "_", "\\", "'", '"', "\x7f", "\u200b", "\u2028", "\ufeff", "\ud7ff", "\ue000"),
        *(
            "\uffff",
            "\U00010000",
            "\U0001f600",
            "\U0010ffff",
            "日本",
            "日",
            "\u0627",
            "א",
            "n" * 1024,
        ),
    },
    key=str.encode,
)
"""Keys that some locale, some encoding or some pattern would put elsewhere, in byte order."""


def test_hostile_keys_come_in_byte_order_from_wherever_and_are_counted(account):
    with account.lease() as lease:
        account.record(lease, finished=map(known, reversed(HOSTILE)))
        account.set_range_boundaries(lease, Filter(), list(map(RangeBoundary, HOSTILE)))
        account.record(
            lease, rejections=[Quarantined(key, None, "w", "bad", "json") for key in HOSTILE]
        )

    assert [one.key for one in account.known()] == HOSTILE
    assert [one.key for one in account.range_boundaries(Filter())] == HOSTILE
    assert [one.key for one in account.quarantined()] == HOSTILE
    assert account.outlived_quarantine("blob") == HOSTILE
    for at, key in enumerate(HOSTILE):
        within = [one for one in HOSTILE if one.startswith(key)]
        assert [one.key for one in account.known(after=key)] == HOSTILE[at + 1 :]
        assert [one.key for one in account.known(key)] == within
        assert account.count_objects(key)[State.LOADED] == len(within), repr(key)


def test_of_what_is_recorded_twice_the_last_counts(account):
    rows = [LoadedRow("a", 0, "v", "d", number) for number in (1, 2)]
    with account.lease() as lease:
        finished = [known("a", State.BEGUN), known("b"), known("a")]
        account.record(lease, loaded=rows, finished=finished)

    assert account.rows_of("a")[0].task_id == 2
    assert [one.state for one in account.known()] == [State.LOADED] * 2


def test_rows_whose_tasks_are_deleted_are_dropped_one_by_one(account):
    rows = [LoadedRow(key, row, "v", "d", row) for key in "ab" for row in range(3)]
    with account.lease() as lease:
        account.record(lease, loaded=rows)
        account.record(lease, dropped=[rows[0], rows[5]])

    assert {key: list(found) for key, found in account.rows_of_all(["a", "b"]).items()} == {
        "a": [1, 2],
        "b": [0, 1],
    }


def test_rejections_of_other_versions_are_dropped(account):
    rejections = [Quarantined(key, 0, "v", "bad", "json") for key in "abc"]
    with account.lease() as lease:
        account.record(lease, rejections=rejections)
        account.record(lease, finished=[known("a"), KnownObject("b", "w", 1, State.LOADED)])
        account.record(lease, finished=[known("c", State.REMOVED)])

    assert [one.key for one in account.quarantined()] == ["a"]


def test_range_boundaries_are_listed_after_a_key(account):
    cut = [RangeBoundary(key, "print", 3, 1) for key in ("a/\x01", "a/1", "a/2", "b")]
    everything, folder = Filter(), Filter("a")
    with account.lease() as lease:
        account.set_range_boundaries(lease, everything, [RangeBoundary("gone")])
        account.set_range_boundaries(lease, everything, cut)

    assert account.range_boundaries(everything) == cut
    assert [one.key for one in account.range_boundaries(folder)] == ["a/\x01", "a/1", "a/2"]
    assert [one.key for one in account.range_boundaries(folder, "a/1")] == ["a/2"]


def test_fingerprints_are_of_a_filter(account):
    with account.lease() as lease:
        account.set_range_boundaries(lease, Filter("a", "b"), [RangeBoundary("a/1", "print", 3)])

    assert account.range_boundaries(Filter("a", "b")) == [RangeBoundary("a/1", "print", 3)]
    assert account.range_boundaries(Filter("a", "")) == [RangeBoundary("a/1")]


def test_what_is_recorded_of_a_range_takes_its_fingerprint(account):
    cut = [RangeBoundary(key, "print", 9) for key in ("b", "d", "f", "h")]
    with account.lease() as lease:
        for touched in (["a"], ["c", "f"], ["i"]):
            account.set_range_boundaries(lease, Filter(), cut)
            some = [KnownObject(key, "v", 1, State.LOADED) for key in touched]
            account.record(lease, finished=some)
            left = [one.key for one in account.range_boundaries(Filter()) if one.fingerprint]
            assert (
                left
                == {"a": ["d", "f", "h"], "c": ["b", "h"], "i": ["b", "d", "f", "h"]}[touched[0]]
            )


def test_attempt_is_open_until_its_outcome_is_recorded(account):
    with account.lease() as lease:
        attempt = account.open_attempt(lease, 7, 40, [LoadedRow("a", 0, "v", "d")])
        opened = account.attempts()
        account.record(lease, attempt=attempt, loaded=[LoadedRow("a", 0, "v", "d", 41)])

    assert (opened, account.attempts()) == ([attempt], [])
    assert account.rows_of("a")[0].task_id == 41


def test_attempt_in_doubt_is_looked_at_again_and_let_go_in_the_end(account, clock):
    with account.lease() as lease:
        account.open_attempt(lease, 7, 40, [LoadedRow("a", 0, "v", "d")])
        waits = []
        while account.attempts():
            assert account.has_attempt_due()
            account.doubt(lease, account.attempts()[0])
            account.doubt(lease, (account.attempts() or [None])[0]) if waits == [] else None
            began = clock.now
            while account.attempts() and not account.has_attempt_due():
                clock.now += 10
            waits.append(clock.now - began)

    assert waits == [*LOOKS, 0]


def test_second_holder_is_refused(account):
    with account.lease(), pytest.raises(LeaseError, match="worked on by"), account.lease():
        pass


def test_lease_is_free_after_its_block(account):
    with account.lease():
        pass
    with account.lease() as lease:
        assert lease.fence == 2


def test_expired_lease_is_taken_over_and_fences_its_holder_off(account, clock):
    with account.lease() as slept:
        clock.now += LEASE_SECONDS + 1
        with account.lease(), pytest.raises(LeaseLostError):
            account.record(slept, loaded=[LoadedRow("a", 0, "v", "d", 1)])

    assert account.rows_of("a") == {}


@pytest.mark.slow
def test_lease_of_a_dead_process_is_taken_over_at_once(database_url, account):
    script = (
        "import os, sys\n"
        "from ls_pipeline.resources.ledger.ledger import Ledger\n"
        "import time\n"
        "account = Ledger(sys.argv[1], lambda: 1_000_000.0).account('c')\n"
        "with account.lease():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, database_url], check=False, env=dict(os.environ))

    with account.lease() as lease:
        assert lease.fence == 2


def test_failures_wait_longer_each_time_and_recovery_forgets_them(account, clock):
    waits = [account.failed("tasks", "down").retry_at - clock.now for _ in range(3)]
    account.recovered("tasks")

    assert (waits, account.health("tasks").failures) == ([30.0, 60.0, 120.0], 0)


def test_work_of_one_kind_does_not_hide_the_failures_of_another(account):
    account.failed("completions", "down")
    account.recovered("tasks")

    assert account.health("completions").failure == "down"


@pytest.mark.parametrize("failures", [8, 1000, 100_000])
def test_nobody_waits_longer_than_an_hour(failures):
    assert retry_delay(failures) == 3600.0


def test_another_target_means_looking_at_all_completions_again(ledger):
    def with_target(prefix):
        target = {"type": "s3-completions", "path": "l", "params": {"prefix": prefix}}
        return build_connection("t", source=None, target=target, project="Cats")

    ledger.save(with_target("a"), "test")
    account = ledger.account("t")
    with account.lease() as lease:
        account.record_exported(
            lease, with_target("a").target, RecentChanges("2026", 3, "2027"), 0, 0
        )
    kept = account.polled()
    ledger.save(with_target("b"), "test")

    assert (kept, account.polled().since) == (RecentChanges("2026", 3, "2027"), "")
