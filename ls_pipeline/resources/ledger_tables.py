"""The tables of the ledger."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

# PostgreSQL orders text by locale unless told; keys are compared by their bytes.
_Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _connection_id() -> sa.Column[int]:
    return sa.Column("connection", sa.ForeignKey("connections.id"), primary_key=True)


connections = sa.Table(
    "connections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("removed", sa.Boolean, nullable=False, default=False),
    sa.Column("project_id", sa.Integer),
    sa.Column("annotated", sa.Integer, nullable=False, default=0),
    sa.Column("polled_to", sa.Text, nullable=False, default=""),
    sa.Column("holder", sa.Text, nullable=False, default=""),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("leased_until", sa.Float, nullable=False, default=0.0),
    sa.Column("source_copy", sa.Text, nullable=False, default=""),
    sa.Column("target_copy", sa.Text, nullable=False, default=""),
    sa.Column("table_digest", sa.Text, nullable=False, default=""),
    sa.Column("table_uri", sa.Text, nullable=False, default=""),
    sa.Column("table_version", sa.Text, nullable=False, default=""),
)
health = sa.Table(
    "health",
    metadata,
    _connection_id(),
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", sa.Float, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
)
revisions = sa.Table(
    "revisions",
    metadata,
    _connection_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
    sa.Column("saved_by", sa.Text, nullable=False),
)
objects = sa.Table(
    "objects",
    metadata,
    _connection_id(),
    sa.Column("key", _Key, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)
tasks = sa.Table(
    "tasks",
    metadata,
    _connection_id(),
    sa.Column("key", _Key, primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
)
quarantine = sa.Table(
    "quarantine",
    metadata,
    _connection_id(),
    sa.Column("key", _Key, primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reading", sa.Text, nullable=False),
)
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("connection", sa.ForeignKey("connections.id"), nullable=False, index=True),
    sa.Column("project_id", sa.Integer, nullable=False),
    sa.Column("above", sa.BigInteger, nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
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
)
