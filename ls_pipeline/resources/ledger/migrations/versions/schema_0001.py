"""The ledger of version 0.1.0, which made its tables without counting its schemas.

So a table may be there, with rows, in a ledger that has no number yet.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make what is not there."""
    _table(
        "connections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("project_id", sa.Integer),
        sa.Column("annotated", sa.Integer, nullable=False),
        sa.Column("polled_to", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("leased_until", sa.Float, nullable=False),
        sa.Column("source_copy", sa.Text, nullable=False),
        sa.Column("target_copy", sa.Text, nullable=False),
        sa.Column("exports_moved", sa.Integer, nullable=False),
        sa.Column("snapshot_of", sa.Integer, nullable=False),
        sa.Column("snapshot_at", sa.Float, nullable=False),
        sa.Column("snapshot_uri", sa.Text, nullable=False),
    )
    op.create_index("ix_connections_name", "connections", ["name"], if_not_exists=True)
    op.create_index(
        "connections_in_use",
        "connections",
        ["name"],
        unique=True,
        if_not_exists=True,
        sqlite_where=sa.text("removed = 0"),
        postgresql_where=sa.text("NOT removed"),
    )
    _table(
        "health",
        _connection(),
        sa.Column("work", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("retry_at", sa.Float, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("passed_at", sa.Float, nullable=False),
    )
    _table(
        "revisions",
        _connection(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("saved_at", sa.Float, nullable=False),
        sa.Column("saved_by", sa.Text, nullable=False),
    )
    _table(
        "objects",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    _table(
        "milestones",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sqlite_with_rowid=False,
    )
    _table(
        "tasks",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    _table(
        "quarantine",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("reading", sa.Text, nullable=False),
    )
    _table(
        "attempts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("connection", sa.Integer, sa.ForeignKey("connections.id"), nullable=False),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("above", sa.BigInteger, nullable=False),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("look_at", sa.Float, nullable=False),
        sa.Column("rows", sa.JSON, nullable=False),
    )
    op.create_index("ix_attempts_connection", "attempts", ["connection"], if_not_exists=True)
    _table(
        "completions",
        _connection(),
        sa.Column("task_id", sa.BigInteger, primary_key=True),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("annotations", sa.Integer, nullable=False),
    )


def _connection() -> sa.Column[int]:
    return sa.Column("connection", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True)


def _table(name: str, *columns: sa.Column[Any], **more: bool) -> None:
    op.create_table(name, *columns, if_not_exists=True, **more)
