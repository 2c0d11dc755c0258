"""A ledger on PostgreSQL whose connection breaks, or whose writer sleeps in its transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import LedgerUpdate
from ls_pipeline.settings.validation import build_connection
from tests.crash.relay import Relay
from tests.crash.scene import AFTER_FILLING, Scene

pytestmark = pytest.mark.server

RUNS_AT_MOST = 4


@pytest.fixture
def relay(live_environment, postgresql):
    """Put a relay before the database of the ledger."""
    url = sa.make_url(postgresql)
    with Relay((url.host, url.port)) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        through = url.set(port=relay.port).render_as_string(hide_password=False)
        live_environment.setenv("LS_PIPELINE_DATABASE_URL", through)
        yield relay
        relay.shutdown()
        thread.join()


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_connection_to_the_ledger_cut_anywhere_loses_and_doubles_nothing(
    relay, victim, kills, answered
):
    scene = Scene(lambda name: victim.run(name)["error"], "s3")
    scene.fill()
    assert scene.run() == ""
    texts, empty, quarantined = AFTER_FILLING
    texts = dict(texts)

    def change(number):
        scene.put("a.json", "a0", f"a1 {number}")
        scene.put(f"new {number}.json", str(number))
        texts["a.json", 1], texts[f"new {number}.json", 0] = f"a1 {number}", str(number)
        scene.annotate("b.json", 0)

    change(0)
    relay.cut(None)
    assert scene.run() == ""
    messages, errors = relay.sent, []
    places = range(1, messages, max(1, messages // kills))
    for number, at in enumerate(places, start=1):
        change(number)
        relay.cut(at, answered=answered)
        errors.append(scene.run())
    for _ in range(RUNS_AT_MOST):
        if scene.run() == "":
            break

    assert relay.cuts == len(places)
    assert [error for error in errors if error and not error.startswith("The ledger ")] == []
    assert any("The next run continues" in error for error in errors)
    assert scene.outcome() == (texts, empty, quarantined)


SLEEPER = """
import os, signal, sys
from ls_pipeline.resources.ledger import database as ledger_database
from ls_pipeline.resources.ledger import lease as ledger_lease
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import LedgerUpdate, Quarantined

ledger_database.POSTGRESQL_SESSION = ("SET idle_in_transaction_session_timeout = '1s'",)
ledger_lease.LEASE_SECONDS = 2.0

def quarantined():
    print("in its transaction", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    yield Quarantined("old", None, "v", "bad", "json")

with Ledger(sys.argv[1]).acquire("c") as held:
    held.intents.record(LedgerUpdate(quarantined=quarantined()))
"""


def test_process_that_sleeps_in_its_transaction_is_overtaken_and_changes_nothing(postgresql):
    ledger = Ledger(postgresql)
    source = {"type": "s3", "path": "b"}
    ledger.save(build_connection("c", source=source, target=None, project="Cats"), "test")
    command = [sys.executable, "-c", SLEEPER, postgresql]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sleeper:
        assert sleeper.stdout.readline() == "in its transaction\n"
        with ledger.acquire("c", patience=30) as held:
            held.intents.record(LedgerUpdate(finished=[KnownObject("new", "v", 1, State.LOADED)]))
            os.kill(sleeper.pid, signal.SIGCONT)
            _, errors = sleeper.communicate()

    records = ledger.connection_ledger("c").objects
    assert "LedgerUnavailableError" in errors
    assert (records.quarantined(), [item.key for item in records.known()]) == ([], ["new"])
    ledger.close()
