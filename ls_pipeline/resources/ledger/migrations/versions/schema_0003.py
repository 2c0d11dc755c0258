"""The projects of a connection, by number: there may be several."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the one project that a connection had its first."""
    op.create_table(
        "projects",
        sa.Column("connection", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project_id", sa.Integer, nullable=False),
    )
    op.execute(
        "INSERT INTO projects (connection, number, project_id) "
        "SELECT id, 1, project_id FROM connections WHERE project_id IS NOT NULL"
    )
    with op.batch_alter_table("connections") as connections:
        connections.drop_column("project_id")
