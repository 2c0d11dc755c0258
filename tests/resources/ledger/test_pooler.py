"""A ledger behind PgBouncer in transaction mode: clients share sessions, and leave no settings."""

import pytest

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import LedgerUpdate
from ls_pipeline.settings.validation import build_connection
from tests import pgbouncer

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not pgbouncer.program(), reason="PgBouncer is not installed"),
]

SETTINGS = ("lock_timeout", "idle_in_transaction_session_timeout", "tcp_keepalives_idle")
CATS = build_connection("c", source={"type": "s3", "path": "b"}, target=None, project="Cats")


@pytest.fixture(scope="module")
def pooler(postgresql_server, logs):
    with pgbouncer.pgbouncer(postgresql_server, logs) as pool:
        yield pool


@pytest.fixture
def url(pooler, postgresql):
    """Return the URL of an empty database behind the pooler."""
    return pooler.url(postgresql.rpartition("/")[2])


def settings_of(url):
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None) as db:
        return [db.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS]


def test_ledgers_share_sessions_and_leave_them_as_they_were(url):
    before = settings_of(url)
    ledgers = [Ledger(url), Ledger(url)]
    ledgers[0].save(CATS, "test")
    for turn in range(10):  # a driver prepares what is asked often
        for number, ledger in enumerate(ledgers):
            with ledger.connection_ledger("c").acquire() as held:
                known = KnownObject(f"{turn}-{number}", "v", 1, State.LOADED)
                held.intents.record(LedgerUpdate(finished=[known]))
                assert known in held.objects.known()

    assert [settings_of(url) for _ in range(3)] == [before] * 3
    for ledger in ledgers:
        ledger.close()


def test_transaction_has_bounds(url):
    ledger = Ledger(url)
    with ledger.database.engine.begin() as db:
        shown = [db.exec_driver_sql(f"SHOW {name}").scalar() for name in SETTINGS]
    ledger.close()

    assert shown == ["40s", "20s", "10"]
