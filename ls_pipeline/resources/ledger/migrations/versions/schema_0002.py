"""How the ranges of a listing were written when all in them was dealt with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what no pass has noted yet."""
    op.add_column(
        "milestones", sa.Column("fingerprint", sa.Text, nullable=False, server_default="")
    )
    for name in ("listed", "filtered"):
        op.add_column("milestones", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column(
        "connections", sa.Column("compared_with", sa.Text, nullable=False, server_default="")
    )
