"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_73f6bb5e"
down_revision = None

KEY = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "connections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, index=True),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("annotated", sa.Integer, nullable=False),
        sa.Column("annotations", sa.Integer, nullable=False),
        sa.Column("polled_to", sa.Text, nullable=False),
        sa.Column("polled_count", sa.Integer, nullable=False),
        sa.Column("polled_newest", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("leased_until", sa.Float, nullable=False),
        sa.Column("source_mirror", sa.Text, nullable=False),
        sa.Column("target_mirror", sa.Text, nullable=False),
        sa.Column("export_changes", sa.Integer, nullable=False),
        sa.Column("snapshot_changes", sa.Integer, nullable=False),
        sa.Column("snapshot_at", sa.Float, nullable=False),
        sa.Column("snapshot_uri", sa.Text, nullable=False),
        sa.Column("compared_with", sa.Text, nullable=False),
        sa.Column("webhook_at", sa.Float, nullable=False),
    )
    op.create_index(
        "connections_in_use",
        "connections",
        ["name"],
        unique=True,
        sqlite_where=sa.text("removed = 0"),
        postgresql_where=sa.text("NOT removed"),
    )
    op.create_table(
        "health",
        _connection(),
        sa.Column("work", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("retry_at", sa.Float, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("passed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "projects",
        _connection(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "revisions",
        _connection(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("saved_at", sa.Float, nullable=False),
        sa.Column("saved_by", sa.Text, nullable=False),
    )
    op.create_table(
        "objects",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "range_boundaries",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("listed", sa.Integer, nullable=False),
        sa.Column("filtered", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tasks",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quarantine",
        _connection(),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("reading", sa.Text, nullable=False),
    )
    op.create_table(
        "pending_imports",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "connection", sa.Integer, sa.ForeignKey("connections.id"), nullable=False, index=True
        ),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("above", sa.BigInteger, nullable=False),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("rechecks", sa.Integer, nullable=False),
        sa.Column("recheck_at", sa.Float, nullable=False),
        sa.Column("rows", sa.JSON, nullable=False),
    )
    op.create_table(
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
