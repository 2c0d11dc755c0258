"""How a ledger's database fails: a sentence, without secrets."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import dagster as dg
import pytest
import sqlalchemy as sa

from ls_pipeline.assets.run import one_pass
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.errors import LedgerError, LedgerUnavailableError
from ls_pipeline.resources.ledger import database as ledger_database
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import Quarantined
from ls_pipeline.resources.ledger.tables import connections
from ls_pipeline.settings.validation import build_connection
from tests.resources.ledger.released_ledgers import VERSIONS, lay_down

CATS = build_connection("c", source={"type": "s3", "path": "b"}, target=None, project="Cats")

BAD = KnownObject("a", "v", 1, State.QUARANTINED)


def open_ledger(url):
    ledger = Ledger(url)
    ledger.save(CATS, "test")
    return ledger, ledger.account("c")


@pytest.fixture
def opened(database_url):
    ledger, account = open_ledger(database_url)
    yield ledger, account
    ledger.engine.dispose()


@pytest.fixture
def on_postgresql(postgresql):
    ledger, account = open_ledger(postgresql)
    yield ledger, account
    ledger.engine.dispose()


@pytest.mark.parametrize("scheme", ["postgresql+nodriver", "postgres"])
def test_missing_driver_names_the_extra(scheme):
    with pytest.raises(LedgerError, match=r"pip install 'ls-pipeline\[postgresql\]'") as failed:
        Ledger(f"{scheme}://me:s3cret@127.0.0.1/ledger")

    assert "s3cret" not in str(failed.value)


def test_driver_that_is_not_installed_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'ls-pipeline\[postgresql\]'"):
        Ledger("postgresql+psycopg://me:s3cret@127.0.0.1/ledger")


@pytest.mark.server
@pytest.mark.parametrize("hidden", [True, False], ids=["in its place", "in the query"])
def test_wrong_password_is_refused_without_showing_it(postgresql_server, hidden):
    url = postgresql_server.url("postgres", "s3cret")
    if not hidden:
        url = url.replace(":s3cret@", "@") + "?password=s3cret"
    with pytest.raises(LedgerError, match="see that its server runs") as failed:
        Ledger(url)

    assert "password authentication failed" in str(failed.value)
    assert "s3cret" not in str(failed.value)


@pytest.mark.server
def test_server_that_is_not_there_is_a_sentence(postgresql):
    address = postgresql.rpartition("@")[2].partition("/")[0]
    gone = postgresql.replace(address, "127.0.0.1:1")
    with pytest.raises(LedgerError, match=r"can't be opened .*; see that its server runs"):
        Ledger(gone)


@pytest.mark.server
def test_connections_that_the_server_closed_are_opened_again(postgresql_server, on_postgresql):
    ledger, account = on_postgresql
    postgresql_server.throw_out(ledger.engine.url.database)

    assert account.revision().connection == CATS


@pytest.mark.server
def test_write_that_loses_its_connection_is_a_sentence_and_not_half_done(
    postgresql_server, on_postgresql
):
    ledger, account = on_postgresql

    def rejections():
        yield Quarantined("a", None, "v", "bad", "json")
        postgresql_server.throw_out(ledger.engine.url.database)

    with account.lease() as lease, pytest.raises(LedgerUnavailableError) as failed:
        account.record(lease, finished=[BAD], rejections=rejections())

    assert "Check its database" in str(failed.value)
    assert postgresql_server.password not in str(failed.value)
    assert list(account.known()) == []


@pytest.mark.server
def test_writer_that_sleeps_in_its_transaction_lets_go_of_the_account(on_postgresql):
    ledger, account = on_postgresql
    with ledger.engine.connect() as asleep:
        asleep.exec_driver_sql("SET idle_in_transaction_session_timeout = '200ms'")
        asleep.exec_driver_sql("UPDATE connections SET fence = 7")
        with account.lease() as lease:
            assert lease.fence == 1
        asleep.invalidate()


@pytest.fixture
def impatient(monkeypatch):
    """Wait for a moment where processes wait for half a minute."""
    monkeypatch.setattr(ledger_database, "SQLITE_PATIENCE", 0.2)
    monkeypatch.setattr(ledger_database, "POSTGRESQL_SESSION", ("SET lock_timeout = '200ms'",))


@contextmanager
def held_by_another(url, statement):
    """Have somebody else write, and not come to an end."""
    engine = sa.create_engine(url)
    with engine.connect() as other:
        other.exec_driver_sql(statement)
        yield
        other.rollback()
    engine.dispose()


def test_write_that_waits_too_long_for_another_is_a_sentence_and_done_later(impatient, opened):
    ledger, account = opened
    with (
        account.lease() as lease,
        held_by_another(ledger.engine.url, "UPDATE connections SET annotated = 7"),
        pytest.raises(
            LedgerUnavailableError, match="another process kept it locked for too long"
        ) as told,
    ):
        account.record(lease, finished=[BAD])
    with account.lease() as lease:
        account.record(lease, finished=[BAD])

    assert (told.value.transient, told.value.is_busy) == (True, True)
    assert list(account.known()) == [BAD]


def test_opening_that_waits_too_long_for_another_is_a_sentence(impatient, database_url):
    lay_down(VERSIONS[0], database_url)
    with (
        held_by_another(database_url, "UPDATE connections SET annotated = 7"),
        pytest.raises(LedgerError, match=r"can't be opened .*; another process kept it"),
    ):
        Ledger(database_url)

    assert Ledger(database_url).names() == ["reviews"]


@pytest.mark.server
def test_two_that_wait_for_each_other_are_told_apart_in_a_sentence(on_postgresql):
    ledger, _ = on_postgresql
    ledger.save(CATS.model_copy(update={"name": "d"}), "test")
    both = [ledger.account(name) for name in "cd"]
    meeting = Barrier(2)

    def cross(one, other):
        try:
            with ledger.engine.begin() as db:
                for account in (one, other):
                    mine = connections.c.id == account.id
                    db.execute(connections.update().where(mine).values(annotated=7))
                    if account is one:
                        meeting.wait()
        except LedgerUnavailableError as error:
            return error.is_busy
        return None

    with ThreadPoolExecutor() as pool:
        said = list(pool.map(cross, both, reversed(both)))

    assert sorted(said, key=str) == [None, True]


@pytest.mark.server
def test_we_notice_soon_that_the_servers_host_is_gone(postgresql_server, on_postgresql):
    ledger, _ = on_postgresql
    with ledger.engine.connect() as db:
        pid = db.connection.driver_connection.pgconn.socket
        with socket.socket(fileno=os.dup(pid)) as ours:
            told = [
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
            ]

    assert told == [10, 5, 30_000]


@pytest.mark.server
def test_sessions_are_told_when_to_give_up(on_postgresql):
    ledger, _ = on_postgresql
    with ledger.engine.connect() as db:
        said = [
            db.exec_driver_sql(f"SHOW {name}").scalar()
            for name in (
                "idle_in_transaction_session_timeout",
                "lock_timeout",
                "tcp_keepalives_idle",
                "tcp_keepalives_interval",
                "tcp_keepalives_count",
                "transaction_isolation",
            )
        ]

    assert said == ["20s", "40s", "10", "5", "3", "read committed"]


def test_pass_whose_ledger_breaks_fails_with_the_ledgers_sentence(opened):
    ledger, account = opened
    with ledger.engine.begin() as db:
        db.exec_driver_sql("DROP TABLE health")
        db.exec_driver_sql("DROP TABLE objects")
    context = dg.build_asset_context(partition_key="c")
    broken = pytest.raises(dg.Failure, match="Check its database")
    with broken, one_pass(context, ledger, "tasks"):
        list(account.known())
