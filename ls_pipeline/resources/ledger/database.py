"""The ledger's database, SQLite or PostgreSQL: opened with its tables, its failures sentences."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError, LedgerUnavailableError
from ls_pipeline.resources.ledger.schema import migrate

SQLITE_PATIENCE = 30.0
"""Seconds to wait for another process's lock."""

POSTGRESQL_SESSION = (
    # A process that is paused within a transaction must not keep the others out for ever.
    "SET idle_in_transaction_session_timeout = '20s'",
    "SET lock_timeout = '40s'",
    # Nor must one whose host is gone without a good-bye; the usual wait is two hours.
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)

POSTGRESQL_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Seconds, and milliseconds of the last: how soon we notice that the server's host is gone, whereas
the session's settings are for the server to notice that ours is. The URL may say otherwise."""

BUSY = ("55P03", "40P01", "40001")
"""What PostgreSQL calls a lock that took too long, a deadlock, and changes in each other's way."""


def open_database(url: str) -> tuple[sa.Engine, str]:
    """Open a database by its URL, and bring its tables to this version's schema.

    Gives also the number of the schema that it had.

    From then on a failure of the database is raised as ``LedgerUnavailableError``; only
    ``sqlalchemy.exc.IntegrityError`` stays what it is, as it tells of another writer.

    Raises ``LedgerError`` when it can't be opened, or is a newer version's.
    """
    try:
        engine = _engine(sa.make_url(url))
        before = _migrate(engine, _without_secrets(url))
    except (sa.exc.SQLAlchemyError, ImportError, OSError, UnicodeError) as error:
        raise LedgerError(
            f"The ledger {_without_secrets(url)} can't be opened ({_reason(error, url)}); "
            f"{_advice(error, url)}"
        ) from error
    _tell_failures(engine, url)
    return engine, before


def _migrate(engine: sa.Engine, name: str) -> str:
    try:
        return migrate(engine, name)
    except BaseException:
        engine.dispose()
        raise


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "postgresql":
        engine = sa.create_engine(url)
        if engine.dialect.name == "sqlite":
            _tune_sqlite(engine)
        return engine
    # What fences runs off relies on seeing what was committed while it waited for a row.
    patience = {
        name: value for name, value in POSTGRESQL_CONNECTION.items() if name not in url.query
    }
    engine = sa.create_engine(
        url, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=patience
    )

    @sa.event.listens_for(engine, "connect")
    def _set(db: Any, _record: object) -> None:
        with db.cursor() as cursor:
            for statement in POSTGRESQL_SESSION:
                cursor.execute(statement)
        db.commit()

    return engine


def _tune_sqlite(engine: sa.Engine) -> None:
    Path(engine.url.database or ".").parent.mkdir(parents=True, exist_ok=True)

    @sa.event.listens_for(engine, "connect")
    def _tune(db: Any, _record: object) -> None:
        db.execute(f"PRAGMA busy_timeout={SQLITE_PATIENCE * 1000:.0f}")
        _turn_to_wal(db)
        db.execute("PRAGMA synchronous=FULL")


def _turn_to_wal(db: Any) -> None:
    """Have readers and a writer work at once; several processes may ask for it at once.

    SQLite refuses a change of the journal's mode at once, however long the busy timeout:
    waiting could be for ever where two wait for each other (https://sqlite.org/wal.html).
    """
    give_up = time.monotonic() + SQLITE_PATIENCE
    while not _turned_to_wal(db) and time.monotonic() < give_up:
        time.sleep(0.01)


def _turned_to_wal(db: Any) -> bool:
    try:
        db.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.args != ("database is locked",):
            raise
        return False
    return True


def _tell_failures(engine: sa.Engine, url: str) -> None:
    @sa.event.listens_for(engine, "handle_error")
    def _tell(context: sa.engine.ExceptionContext) -> LedgerError | None:
        error = context.sqlalchemy_exception or context.original_exception
        told = isinstance(error, (sa.exc.StatementError, UnicodeError))
        if context.is_pre_ping or not told or isinstance(error, sa.exc.IntegrityError):
            return None  # a connection that went stale in the pool is simply replaced
        return LedgerUnavailableError(
            _without_secrets(url), _reason(error, url), is_busy=_is_busy(error)
        )


def _is_busy(error: BaseException) -> bool:
    """Tell whether another process had what this one waited for."""
    told = getattr(error, "orig", None)
    return getattr(told, "sqlstate", "") in BUSY or str(told) == "database is locked"


def _without_secrets(url: str) -> str:
    return re.sub("//.*@", "//***@", url).partition("?")[0]


def _reason(error: BaseException, url: str) -> str:
    """Give the first line of what the driver says, which may quote the URL."""
    said = str(getattr(error, "orig", None) or error).partition("\n")[0].rstrip(" .;")
    for secret in _secrets(url):
        said = said.replace(secret, "***")
    return said


def _secrets(url: str) -> list[str]:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return []
    found = [parsed.password, *parsed.normalized_query.get("password", ())]
    return [secret for secret in map(str, filter(None, found)) if secret]


def _advice(error: Exception, url: str) -> str:
    if _is_busy(error):
        return "another process kept it for too long: try again, and see which one it is."
    driver_is_missing = isinstance(error, (ImportError, sa.exc.NoSuchModuleError))
    if driver_is_missing and url.startswith("postgres"):
        return (
            "PostgreSQL needs a driver: run pip install 'ls-pipeline[postgresql]', and begin "
            "LS_PIPELINE_DATABASE_URL with postgresql+psycopg://."
        )
    if url.startswith("postgresql"):
        return "see that its server runs, or correct LS_PIPELINE_DATABASE_URL."
    return "set LS_PIPELINE_HOME to a folder of yours, or correct LS_PIPELINE_DATABASE_URL."
