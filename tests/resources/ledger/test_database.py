"""How a ledger's database fails: a sentence, without secrets."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest
import sqlalchemy as sa

from ls_pipeline.assets.run import connection_run
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.errors import LedgerError, LedgerUnavailableError
from ls_pipeline.resources.ledger import database as ledger_database
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import LedgerUpdate, Quarantined
from ls_pipeline.resources.ledger.schema import MIGRATING
from ls_pipeline.resources.ledger.tables import connections
from ls_pipeline.settings.validation import build_connection

CATS = build_connection("c", source={"type": "s3", "path": "b"}, target=None, project="Cats")

BAD = KnownObject("a", "v", 1, State.QUARANTINED)


def open_ledger(url):
    ledger = Ledger(url)
    ledger.save(CATS, "test")
    return ledger, ledger.connection_ledger("c")


@pytest.fixture
def opened(database_url):
    ledger, connection_ledger = open_ledger(database_url)
    yield ledger, connection_ledger
    ledger.close()


@pytest.fixture
def on_postgresql(postgresql):
    ledger, connection_ledger = open_ledger(postgresql)
    yield ledger, connection_ledger
    ledger.close()


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
    with pytest.raises(LedgerError, match="Correct the user or the password") as failed:
        Ledger(url)

    assert "password authentication failed" in str(failed.value)
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "me:s3cret@host/ledger",
        "host=127.0.0.1 user=me password=s3cret dbname=ledger",
        "postgresql+psycopg://me:p@s3cret@127.0.0.1:9/ledger",
        "postgresql+psycopg://me:s3cret@127.0.0.1:port/ledger",
        "postgresql+psycopg://me:p%zz@s3cret@127.0.0.1/ledger",
        "postgresql+psycopg://me:p/s3cret@127.0.0.1:9/ledger",
        "postgresql+psycopg://me:p?s3cret@127.0.0.1:9/ledger",
        "postgresql+psycopg://me:p#s3cret@127.0.0.1:9/ledger",
        "postgresql+psycopg://me:[s3cret@127.0.0.1:9/ledger",
        "mysql://me:s3cret@127.0.0.1/ledger",
        "s3cret",
    ],
)
def test_url_that_can_not_be_used_is_refused_without_showing_it(url):
    with pytest.raises(LedgerError) as failed:
        Ledger(url)

    assert "s3cret" not in str(failed.value)
    assert "LS_PIPELINE_DATABASE_URL" in str(failed.value)


@pytest.fixture
def latin1(postgresql_server):
    """Return the URL of a database that can't hold every key."""
    postgresql_server.sql("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    yield postgresql_server.url("latin1")
    postgresql_server.sql("DROP DATABASE latin1 WITH (FORCE)")


@pytest.mark.server
def test_database_that_can_not_hold_every_key_is_refused(latin1):
    with pytest.raises(LedgerError, match=r"its encoding is LATIN1.*Use a database whose encoding"):
        Ledger(latin1)


@pytest.mark.server
def test_role_with_another_encoding_stores_every_key(postgresql_server, postgresql):
    postgresql_server.sql("ALTER ROLE ledger SET client_encoding = 'LATIN1'")
    try:
        ledger, connection_ledger = open_ledger(postgresql)
        with connection_ledger.acquire() as held:
            held.intents.record(LedgerUpdate(finished=[BAD._replace(key="猫.png")]))
        keys = [known.key for known in connection_ledger.objects.known()]
        ledger.close()
    finally:
        postgresql_server.sql("ALTER ROLE ledger RESET client_encoding")

    assert keys == ["猫.png"]


@pytest.mark.server
def test_documented_role_and_database_are_enough(postgresql_server):
    page = (Path(__file__).parents[3] / "docs" / "deploying.md").read_text()
    statements = page.partition("```sql\n")[2].partition("```")[0].split(";")[:-1]
    postgresql_server.sql(*statements)
    try:
        url = postgresql_server.url("ledger").replace(postgresql_server.password, "choose-one")
        ledger = Ledger(url.replace("//ledger:", "//labeling:"))
        ledger.check_writes()
        ledger.close()
    finally:
        postgresql_server.sql(
            "DROP DATABASE ledger WITH (FORCE)", "DROP DATABASE dagster", "DROP ROLE labeling"
        )


@pytest.mark.server
def test_advice_follows_the_cause(postgresql_server, postgresql):
    engine = sa.create_engine(postgresql)
    absent = postgresql_server.url("absent")
    with pytest.raises(LedgerError, match="Create the database: CREATE DATABASE"):
        Ledger(absent)
    postgresql_server.sql("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    reader = postgresql.replace(postgresql_server.password, "reader").replace("ledger:", "reader:")
    try:
        with pytest.raises(LedgerError, match="GRANT CREATE, USAGE ON SCHEMA public"):
            Ledger(reader)
        Ledger(postgresql).close()
        with engine.begin() as db:
            db.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        ledger = Ledger(reader)
        with pytest.raises(LedgerUnavailableError, match="GRANT ALL ON ALL TABLES"):
            ledger.check_writes()
        ledger.close()
        with engine.begin() as db:
            db.exec_driver_sql("DROP OWNED BY reader")
    finally:
        engine.dispose()
        postgresql_server.sql("DROP ROLE reader")


@pytest.mark.server
def test_server_that_can_not_be_reached_is_a_sentence(postgresql):
    address = postgresql.rpartition("@")[2].partition("/")[0]
    absent = postgresql.replace(address, "127.0.0.1:1")
    with pytest.raises(LedgerError, match=r"can't be opened .*\. Check that its server runs"):
        Ledger(absent)


@pytest.mark.server
def test_connections_that_the_server_closed_are_opened_again(postgresql_server, on_postgresql):
    ledger, connection_ledger = on_postgresql
    postgresql_server.disconnect_clients(ledger.database.engine.url.database)

    assert connection_ledger.settings.in_force().connection == CATS


@pytest.mark.server
def test_write_that_loses_its_connection_is_a_sentence_and_not_half_done(
    postgresql_server, on_postgresql
):
    ledger, connection_ledger = on_postgresql

    def quarantined():
        yield Quarantined("a", None, "v", "bad", "json")
        postgresql_server.disconnect_clients(ledger.database.engine.url.database)

    with connection_ledger.acquire() as held, pytest.raises(LedgerUnavailableError) as failed:
        held.intents.record(LedgerUpdate(finished=[BAD], quarantined=quarantined()))

    assert "Check its database" in str(failed.value)
    assert postgresql_server.password not in str(failed.value)
    assert list(connection_ledger.objects.known()) == []


@pytest.mark.server
def test_writer_that_sleeps_in_its_transaction_locks_nothing_for_long(on_postgresql):
    ledger, connection_ledger = on_postgresql
    with ledger.database.engine.connect() as asleep:
        asleep.exec_driver_sql("SET idle_in_transaction_session_timeout = '200ms'")
        asleep.exec_driver_sql("UPDATE connections SET fence = 7")
        with connection_ledger.acquire() as held:
            assert held.fence.number == 1
        asleep.invalidate()


@pytest.fixture
def impatient(monkeypatch):
    """Wait for a moment for what takes half a minute elsewhere."""
    monkeypatch.setattr(ledger_database, "SQLITE_PATIENCE", 0.2)
    monkeypatch.setitem(ledger_database.POSTGRESQL_TRANSACTION, "lock_timeout", "200ms")


@contextmanager
def held_by_another(url, statement):
    """Write in another connection, without committing, while the block runs."""
    engine = sa.create_engine(url)
    with engine.connect() as other:
        other.exec_driver_sql(statement)
        yield
        other.rollback()
    engine.dispose()


def test_write_that_waits_too_long_for_another_is_a_sentence_and_done_later(impatient, opened):
    ledger, connection_ledger = opened
    with (
        connection_ledger.acquire() as held,
        held_by_another(ledger.database.engine.url, "UPDATE connections SET annotated = 7"),
        pytest.raises(
            LedgerUnavailableError, match="another process kept it locked for too long"
        ) as failed,
    ):
        held.intents.record(LedgerUpdate(finished=[BAD]))
    with connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(finished=[BAD]))

    assert (failed.value.transient, failed.value.is_busy) == (True, True)
    assert list(connection_ledger.objects.known()) == [BAD]


def test_opening_that_waits_too_long_for_another_is_a_sentence(impatient, database_url):
    statement = f"SELECT pg_advisory_xact_lock({MIGRATING})"
    if database_url.startswith("sqlite"):
        Path(sa.make_url(database_url).database).parent.mkdir()
        statement = "BEGIN IMMEDIATE"
    with (
        held_by_another(database_url, statement),
        pytest.raises(
            LedgerError, match=r"can't be opened .*\. Another process kept it locked for too long"
        ),
    ):
        Ledger(database_url)
    ledger, _ = open_ledger(database_url)

    assert ledger.names() == ["c"]
    ledger.close()


@pytest.mark.server
def test_of_two_that_wait_for_each_other_one_fails_in_a_sentence(on_postgresql):
    ledger, _ = on_postgresql
    ledger.save(CATS.model_copy(update={"name": "d"}), "test")
    both = [ledger.connection_ledger(name).id for name in "cd"]
    meeting = Barrier(2)

    def cross(first, second):
        try:
            with ledger.database.engine.begin() as db:
                for id_ in (first, second):
                    row = connections.c.id == id_
                    db.execute(connections.update().where(row).values(annotated=7))
                    if id_ == first:
                        meeting.wait()
        except LedgerUnavailableError as error:
            return error.is_busy
        return None

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(cross, both, reversed(both)))

    assert sorted(results, key=str) == [None, True]


@pytest.mark.server
def test_we_notice_soon_that_the_servers_host_is_gone(postgresql_server, on_postgresql):
    ledger, _ = on_postgresql
    with ledger.database.engine.connect() as db:
        number = db.connection.driver_connection.pgconn.socket
        with socket.socket(fileno=os.dup(number)) as ours:
            options = [
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
            ]

    assert options == [10, 5, 30_000]


@pytest.mark.server
def test_transactions_give_up_in_time(on_postgresql):
    ledger, _ = on_postgresql
    with ledger.database.engine.connect() as db:
        settings = [
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

    assert settings == ["20s", "40s", "10", "5", "3", "read committed"]


def test_run_whose_ledger_breaks_fails_with_the_ledgers_sentence(opened):
    ledger, _ = opened
    with ledger.database.engine.begin() as db:
        db.exec_driver_sql("DROP TABLE health")
        db.exec_driver_sql("DROP TABLE objects")
    context = dg.build_asset_context(partition_key="c")
    broken = pytest.raises(dg.Failure, match=r"Check its database|A table is missing")
    with broken, connection_run(context, ledger, "tasks") as held:
        list(held.objects.known())
