"""The tables of the ledger."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()


class _EscapedKey(sa.TypeDecorator[str]):
    """An object's key on PostgreSQL.

    PostgreSQL orders text by locale by default, and has no NUL. The escape keeps order and
    prefixes.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Text(collation="C"))

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return value
        return value.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return value
        return value.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")


_KEY = sa.Text().with_variant(_EscapedKey(), "postgresql")
"""An object's key, compared by its bytes."""


class _Prose(sa.TypeDecorator[str]):
    """Text for people. It may quote what no database takes: NUL, and lone surrogates."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return value.encode(errors="backslashreplace").decode().replace("\x00", "\\x00")


def _connection_id() -> sa.Column[int]:
    return sa.Column("connection", sa.ForeignKey("connections.id"), primary_key=True)


identity = sa.Table(
    "identity",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ledger", sa.Text, nullable=False),
)
connections = sa.Table(
    "connections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("removed", sa.Boolean, nullable=False, default=False),
    sa.Column("annotated", sa.Integer, nullable=False, default=0),
    sa.Column("annotations", sa.Integer, nullable=False, default=0),
    sa.Column("polled_to", sa.Text, nullable=False, default=""),
    sa.Column("polled_count", sa.Integer, nullable=False, default=0),
    sa.Column("polled_newest", sa.Text, nullable=False, default=""),
    sa.Column("holder", sa.Text, nullable=False, default=""),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("leased_until", sa.Float, nullable=False, default=0.0),
    sa.Column("source_mirror", sa.Text, nullable=False, default=""),
    sa.Column("target_mirror", sa.Text, nullable=False, default=""),
    sa.Column("export_changes", sa.Integer, nullable=False, default=0),
    sa.Column("snapshot_changes", sa.Integer, nullable=False, default=0),
    sa.Column("snapshot_at", sa.Float, nullable=False, default=0.0),
    sa.Column("snapshot_uri", sa.Text, nullable=False, default=""),
    sa.Column("compared_with", sa.Text, nullable=False, default=""),
    sa.Column("webhook_at", sa.Float, nullable=False, default=0.0),
    sa.Column("generation", sa.Integer, nullable=False, default=0),
    sa.Column("app_generation", sa.Integer, nullable=False, default=0),
    sa.Column("target_generation", sa.Integer, nullable=False, default=0),
    sa.Column("target_root", sa.Text, nullable=False, default=""),
    sa.Column("tasks_verified", sa.Boolean, nullable=False, default=False),
    sa.Column("files_verified", sa.Boolean, nullable=False, default=False),
    sa.Column("tasks_shown", sa.Integer, nullable=False, default=0),
    sa.Column("files_shown", sa.Integer, nullable=False, default=0),
    sa.Column("sidecars", sa.Text, nullable=False, default=""),
)
_in_use = ~connections.c.removed
sa.Index(
    "connections_in_use",
    connections.c.name,
    unique=True,
    sqlite_where=_in_use,
    postgresql_where=_in_use,
)
health = sa.Table(
    "health",
    metadata,
    _connection_id(),
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", sa.Float, nullable=False),
    sa.Column("failure", _Prose, nullable=False),
    sa.Column("passed_at", sa.Float, nullable=False),
    sa.Column("needs_decision", sa.Boolean, nullable=False, default=False),
    sa.Column("since", sa.Float, nullable=False, default=0.0),
)
projects = sa.Table(
    "projects",
    metadata,
    _connection_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("marked", sa.Boolean, nullable=False, default=False),
)
revisions = sa.Table(
    "revisions",
    metadata,
    _connection_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
    sa.Column("saved_by", _Prose, nullable=False),
)
declarations = sa.Table(
    "declarations",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
)
objects = sa.Table(
    "objects",
    metadata,
    _connection_id(),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("next_row", sa.Integer, nullable=False, default=0),
    sqlite_with_rowid=False,  # a key is stored once, not in an index, too
)
range_boundaries = sa.Table(
    "range_boundaries",
    metadata,
    _connection_id(),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("listed", sa.Integer, nullable=False),
    sa.Column("filtered", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
tasks = sa.Table(
    "tasks",
    metadata,
    _connection_id(),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("row_key", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
sidecars = sa.Table(
    "sidecars",
    metadata,
    _connection_id(),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("sidecar", _KEY, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("is_outdated", sa.Boolean, nullable=False),
    sa.Index("sidecars_by_sidecar", "connection", "sidecar"),
    sqlite_with_rowid=False,
)
quarantine = sa.Table(
    "quarantine",
    metadata,
    _connection_id(),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("reason", _Prose, nullable=False),
    sa.Column("reading", sa.Text, nullable=False),
    sa.Column("more", sa.Integer, nullable=False, default=0),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("retry_at", sa.Float, nullable=False, default=0.0),
)
intents = sa.Table(
    "intents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("connection", sa.ForeignKey("connections.id"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("project_id", sa.Integer, nullable=False),
    sa.Column("above", sa.BigInteger, nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.Column("looks", sa.Integer, nullable=False, default=0),
    sa.Column("look_at", sa.Float, nullable=False, default=0.0),
    sa.Column("rows", sa.JSON, nullable=False),
)
completions = sa.Table(
    "completions",
    metadata,
    _connection_id(),
    sa.Column("task_id", sa.BigInteger, primary_key=True),
    sa.Column("updated_at", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("annotations", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)
looks = sa.Table(
    "looks",
    metadata,
    _connection_id(),
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("failure", _Prose, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
)
changes = sa.Table(
    "changes",
    metadata,
    _connection_id(),
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("objects", sa.Integer, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
)
ticks = sa.Table(
    "ticks",
    metadata,
    sa.Column("sensor", sa.Text, primary_key=True),
    sa.Column("ended_at", sa.Float, nullable=False),
    sa.Column("due_seconds", sa.Float, nullable=False),
)
heartbeats = sa.Table(
    "heartbeats",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
_unfinished = completions.c.digest == ""
sa.Index(
    "completions_unfinished",
    completions.c.connection,
    completions.c.task_id,
    sqlite_where=_unfinished,
    postgresql_where=_unfinished,
)


def last_revision(connection_id: int) -> sa.Select[Any]:
    """Return a query for the newest revision of a connection's settings."""
    own = revisions.c.connection == connection_id
    return sa.select(revisions).where(own).order_by(revisions.c.number.desc()).limit(1)
