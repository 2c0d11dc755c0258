"""How many annotations a project had when they were last exported; until then, none."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the count."""
    op.add_column(
        "connections", sa.Column("annotations", sa.Integer, nullable=False, server_default="0")
    )
