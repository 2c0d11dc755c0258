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
from ls_pipeline.settings.validation import build_connection
from tests.crash.relay import Relay
from tests.crash.scene import AFTER_FILLING, Scene

pytestmark = pytest.mark.server

ROUNDS = 4


@pytest.fixture
def relay(world, postgresql):
    """Put a relay before the database of the ledger."""
    url = sa.make_url(postgresql)
    with Relay((url.host, url.port)) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        through = url.set(port=relay.port).render_as_string(hide_password=False)
        world.setenv("LS_PIPELINE_DATABASE_URL", through)
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
    messages, said = relay.sent, []
    places = range(1, messages, max(1, messages // kills))
    for number, at in enumerate(places, start=1):
        change(number)
        relay.cut(at, answered=answered)
        said.append(scene.run())
    for _ in range(ROUNDS):
        if scene.run() == "":
            break

    assert relay.cuts == len(places)
    assert [one for one in said if one and not one.startswith("The ledger ")] == []
    assert any("The next run continues" in one for one in said)
    assert scene.outcome() == (texts, empty, quarantined)


SLEEPER = """
import os, signal, sys
from ls_pipeline.resources.ledger import database as ledger_database
from ls_pipeline.resources.ledger import lease as ledger_lease
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import Quarantined

ledger_database.POSTGRESQL_SESSION = ("SET idle_in_transaction_session_timeout = '1s'",)
ledger_lease.LEASE_SECONDS = 2.0
account = Ledger(sys.argv[1]).account("c")

def rejections():
    print("in its transaction", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    yield Quarantined("old", None, "v", "bad", "json")

with account.lease() as lease:
    account.record(lease, rejections=rejections())
"""


def test_process_that_sleeps_in_its_transaction_is_overtaken_and_changes_nothing(postgresql):
    ledger = Ledger(postgresql)
    source = {"type": "s3", "path": "b"}
    ledger.save(build_connection("c", source=source, target=None, project="Cats"), "test")
    account = ledger.account("c")
    command = [sys.executable, "-c", SLEEPER, postgresql]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout.readline() == "in its transaction\n"
        with account.lease(patience=30) as lease:
            account.record(lease, finished=[KnownObject("new", "v", 1, State.LOADED)])
            os.kill(one.pid, signal.SIGCONT)
            _, said = one.communicate()

    assert "LedgerUnavailableError" in said
    assert (account.quarantined(), [one.key for one in account.known()]) == ([], ["new"])
    ledger.engine.dispose()
