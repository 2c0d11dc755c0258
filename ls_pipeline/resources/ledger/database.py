"""The ledger's database, SQLite or PostgreSQL, and its failures as sentences."""

from __future__ import annotations

import re
import sqlite3
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError, LedgerUnavailableError
from ls_pipeline.domain.text import has_escaped_login, without_secrets
from ls_pipeline.resources.ledger.schema import migrate
from ls_pipeline.resources.private_files import create_private_file, create_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable

SQLITE_PATIENCE = 30.0
"""Seconds to wait for another process's lock."""

POSTGRESQL_TRANSACTION = {
    # A process that is paused within a transaction must not lock the others out.
    "idle_in_transaction_session_timeout": "20s",
    "lock_timeout": "40s",
    # Nor must a process whose host is gone. The server's default wait is two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Settings of each transaction, not of the session: a pooler gives sessions to other clients."""


POSTGRESQL_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "utf8",  # whatever the role's or the database's default is
    "prepare_threshold": None,  # a prepared statement belongs to a session, too
}
"""How soon we notice that the server's host is gone: seconds, the last in milliseconds.

With the transaction's settings the server notices that our host is gone. The URL may override
these.
"""

BUSY = ("55P03", "40P01", "40001")
"""SQLSTATE of a lock that took too long, of a deadlock, and of conflicting changes."""

SERVER_TIME = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
"""PostgreSQL's own time, in seconds since 1970."""


class Database:
    """The ledger's database, and the clock that its records are dated by.

    The hosts that share a ledger compare its times, so its clock is PostgreSQL's. With SQLite it is
    this host's. ``clock`` replaces either. ``schema_before`` is the schema that opening it found.

    Raises ``LedgerError`` if it can't be opened or has another version's schema. After that, a
    failure of the database is raised as ``LedgerUnavailableError``. Only
    ``sqlalchemy.exc.IntegrityError`` stays as it is: it shows that another process wrote.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.clock, self.sleep = clock, sleep
        self.engine, self.schema_before = _open(url)
        weakref.finalize(self, self.engine.dispose)  # also when the process ends

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        if not self._has_server_time:
            return (self.clock or time.time)()
        with self.engine.connect() as db:
            return float(db.execute(sa.select(SERVER_TIME)).scalar_one())

    def now_expression(self) -> sa.ColumnElement[float]:
        """Return the time as a part of a statement, which saves the query of `now`."""
        return SERVER_TIME if self._has_server_time else sa.literal(self.now(), sa.Float)

    @property
    def _has_server_time(self) -> bool:
        return self.clock is None and self.engine.dialect.name == "postgresql"


def _open(url: str) -> tuple[sa.Engine, str]:
    parsed = parse_database_url(url)
    try:
        engine = _engine(parsed)
        before = _migrate(engine, without_secrets(url))
    except (sa.exc.SQLAlchemyError, ImportError, OSError, UnicodeError) as error:
        raise LedgerError(
            f"The ledger {without_secrets(url)} can't be opened ({_reason(error, url)}).",
            hint=_advice(error, url),
        ) from (None if any(secret in str(error) for secret in _secrets(url)) else error)
    _translate_failures(engine, url)
    return engine, before


def parse_database_url(url: str) -> sa.URL:
    """Return a URL by its parts.

    Raises ``LedgerError`` without the URL: nobody knows which part of it is the password.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is None or not has_escaped_login(url):
        raise LedgerError(
            "The ledger's URL can't be used: it is not like "
            "postgresql+psycopg://user:password@host:5432/ledger.",
            hint="Correct LS_PIPELINE_DATABASE_URL, or the URL that you gave. Write each of "
            "@ : / ? # % in a name or a password with %, as in %40 for @.",
        )
    if parsed.get_backend_name() not in {"sqlite", "postgresql", "postgres"}:
        raise LedgerError(
            f"The ledger's URL can't be used: it names {parsed.get_backend_name()!r}, and a ledger "
            "is in SQLite or PostgreSQL.",
            hint="Correct LS_PIPELINE_DATABASE_URL, or the URL that you gave: begin it with "
            "sqlite:/// or postgresql+psycopg://.",
        )
    return parsed


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
    # The fence relies on this: it sees what was committed while it waited for a row.
    patience = {
        name: value for name, value in POSTGRESQL_CONNECTION.items() if name not in url.query
    }
    engine = sa.create_engine(
        url, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=patience
    )

    @sa.event.listens_for(engine, "connect")
    def _set(db: Any, _record: object) -> None:
        encoding = db.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise _EncodingError(encoding)

    settings = (sa.func.set_config(*each, True) for each in POSTGRESQL_TRANSACTION.items())
    bounds = str(sa.select(*settings).compile(engine, compile_kwargs={"literal_binds": True}))

    @sa.event.listens_for(engine, "begin")
    def _bound(db: sa.Connection) -> None:
        db.exec_driver_sql(bounds)

    return engine


def _tune_sqlite(engine: sa.Engine) -> None:
    name = engine.url.database or ":memory:"
    if not name.startswith((":memory:", "file:")):
        create_private_folder(Path(name).parent)
        create_private_file(Path(name))  # SQLite gives the same rights to the files next to it

    @sa.event.listens_for(engine, "connect")
    def _tune(db: Any, _record: object) -> None:
        db.execute(f"PRAGMA busy_timeout={SQLITE_PATIENCE * 1000:.0f}")
        _turn_to_wal(db)
        db.execute("PRAGMA synchronous=FULL")


def _turn_to_wal(db: Any) -> None:
    """Let readers and a writer work at the same time. Several processes may ask for it at once.

    SQLite refuses to change the journal's mode without waiting, whatever the busy timeout: two
    processes could wait for each other (https://sqlite.org/wal.html).
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


def _translate_failures(engine: sa.Engine, url: str) -> None:
    @sa.event.listens_for(engine, "handle_error")
    def _translate(context: sa.engine.ExceptionContext) -> LedgerError | None:
        error = context.sqlalchemy_exception or context.original_exception
        is_failure = isinstance(error, (sa.exc.StatementError, UnicodeError))
        if context.is_pre_ping or not is_failure or isinstance(error, sa.exc.IntegrityError):
            return None  # a connection that went stale in the pool is replaced
        return LedgerUnavailableError(
            without_secrets(url),
            _reason(error, url),
            is_busy=_is_busy(error),
            advice=ADVICE.get(_sqlstate(error), "Check its database."),
        )


def _is_busy(error: BaseException) -> bool:
    """Return whether another process held what this one waited for."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", "") in BUSY or str(original) == "database is locked"


def _reason(error: BaseException, url: str) -> str:
    """Return the first line of the driver's message without secrets; it may quote the URL."""
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0].rstrip(" .;")
    for secret in _secrets(url):
        reason = reason.replace(secret, "***")
    return reason


def _secrets(url: str) -> list[str]:
    parsed = sa.make_url(url)
    secrets = [parsed.password, *parsed.normalized_query.get("password", ())]
    return [secret for secret in map(str, filter(None, secrets)) if secret]


class _EncodingError(UnicodeError):
    """A database can't hold every key."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"its encoding is {encoding}, which can't hold every key")


ADVICE = {
    "42501": "Give its role the rights: GRANT CREATE, USAGE ON SCHEMA public TO the role, and "
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO the role.",
    "28P01": "Correct the user or the password in LS_PIPELINE_DATABASE_URL.",
    "28000": "Have the server's pg_hba.conf let this user in; sslmode=require in the URL uses TLS.",
    "3D000": "Create the database: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
    "42P01": "A table is missing: restore a backup.",
    "42703": "A column is missing: restore a backup.",
    "53300": "Raise the server's max_connections, or use a pooler such as PgBouncer.",
}
"""What to do, by SQLSTATE."""

_AT_CONNECTION = {
    "28P01": r"password authentication failed|no password supplied",
    "28000": r"pg_hba\.conf|SSL|role \".*\" does not exist|not permitted to log in",
    "3D000": r"database \".*\" does not exist",
    "53300": r"too many (connections|clients)|remaining connection slots",
}
"""PostgreSQL's messages while it connects: then libpq keeps the SQLSTATE to itself."""


def _sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of PostgreSQL; empty if it is unknown."""
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", "") or ""
    texts = (state for state, text in _AT_CONNECTION.items() if re.search(text, str(original)))
    return state or next(texts, "")


def _advice(error: Exception, url: str) -> str:
    if _is_busy(error):
        return "Another process kept it locked for too long. Stop that process, or try again."
    driver_is_missing = isinstance(error, (ImportError, sa.exc.NoSuchModuleError))
    if driver_is_missing and url.startswith("postgres"):
        return (
            "PostgreSQL needs a driver: run pip install 'ls-pipeline[postgresql]', and begin "
            "LS_PIPELINE_DATABASE_URL with postgresql+psycopg://."
        )
    if isinstance(error, _EncodingError):
        return f"Use a database whose encoding is UTF8. {ADVICE['3D000']}"
    if advice := ADVICE.get(_sqlstate(error)):
        return advice
    if url.startswith("postgresql"):
        return "Check that its server runs, or correct its URL (LS_PIPELINE_DATABASE_URL)."
    return (
        "Correct its URL (LS_PIPELINE_DATABASE_URL), or set LS_PIPELINE_HOME to a folder that you "
        "can write to."
    )
