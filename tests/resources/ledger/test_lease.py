"""Leases between a holder that is slow and a run that wants its connection."""

import itertools
import json
import re
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from ls_pipeline.domain.errors import LeaseError, RunTooLongError
from ls_pipeline.resources.ledger import lease
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.settings.validation import build_connection
from tests.bench import FakeClock

AHEAD = """
import json, sys, time
host_time = time.time
time.time = lambda: host_time() + 120
from ls_pipeline.domain.errors import LeaseError
from ls_pipeline.resources.ledger.ledger import Ledger

ledger = Ledger(sys.argv[1])
status, connection = ledger.statuses()[0], ledger.connection_ledger("c")
try:
    with connection.acquire() as held:
        taken = held.fence.number
except LeaseError:
    taken = 0
print(json.dumps([status.held_by, connection.held_by(), taken]))
ledger.close()
"""
"""What a host sees whose clock is two minutes ahead."""


@pytest.fixture
def connection_ledger(ledger):
    save(ledger, "c")
    return ledger.connection_ledger("c")


def save(ledger, name):
    source = {"type": "s3", "path": "b"}
    ledger.save(build_connection(name, source=source, target=None, project="Cats"), "test")


def before_first_update(engine, act):
    """Call a function just before the engine's next update, but not before those within it."""
    calls = itertools.count()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _act(_db, _cursor, statement, *_):
        if statement.startswith("UPDATE") and next(calls) == 0:
            act()


def test_lease_that_is_renewed_while_another_run_takes_it_is_kept(ledger, connection_ledger):
    ledger.database.clock = clock = FakeClock()
    with connection_ledger.acquire() as slow:
        holder = slow.held_by()
        clock.sleep(LEASE_SECONDS + 1)
        before_first_update(ledger.database.engine, slow.renew)
        with pytest.raises(LeaseError, match=re.escape(holder)), connection_ledger.acquire():
            pass

        slow.renew()


def test_lease_that_is_taken_while_another_run_takes_it_is_kept(ledger, connection_ledger):
    first = connection_ledger.acquire()
    before_first_update(ledger.database.engine, first.__enter__)
    with pytest.raises(LeaseError, match="worked on by"), connection_ledger.acquire():
        pass
    fence = ledger.statuses()[0].fence
    first.__exit__(None, None, None)

    assert fence == 1


@pytest.mark.server
@pytest.mark.slow
def test_host_whose_clock_is_ahead_takes_no_living_lease(postgresql):
    ledger = Ledger(postgresql)
    save(ledger, "c")
    with ledger.acquire("c") as held:
        holder = held.held_by()
        command = [sys.executable, "-c", AHEAD, postgresql]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ledger.close()

    assert json.loads(answer) == [holder, holder, 0]


def test_ledger_has_a_clock_of_its_own(ledger):
    assert ledger.now() == pytest.approx(time.time(), abs=10)


def test_statuses_ask_for_the_time_once(ledger):
    statements = []
    sa.event.listen(
        ledger.database.engine,
        "before_cursor_execute",
        lambda _db, _cursor, statement, *_: (
            "set_config" in statement or statements.append(statement)
        ),
    )
    counts = []
    for name in "ab":
        save(ledger, name)
        statements.clear()
        ledger.statuses()
        counts.append(len(statements))

    assert counts == [6, 6]


def test_lease_of_a_run_that_hangs_runs_out_after_its_time(connection_ledger, monkeypatch):
    is_over = threading.Event()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(lease.Fence, "is_too_old", property(lambda _: is_over.is_set()))
    with connection_ledger.acquire() as hanging:
        hanging.check_time()
        is_over.set()
        with connection_ledger.acquire(patience=30):
            with pytest.raises(RunTooLongError, match=r"'c'.*its limit.*The next run continues"):
                hanging.renew()
            with pytest.raises(RunTooLongError):
                hanging.check_time()


def test_run_whose_time_is_over_records_what_it_did(connection_ledger):
    with connection_ledger.acquire(seconds=0.0) as held:
        with pytest.raises(RunTooLongError):
            held.renew()
        held.health.record_failure("tasks", "It took too long.")

    assert connection_ledger.health.of("tasks").failure == "It took too long."
