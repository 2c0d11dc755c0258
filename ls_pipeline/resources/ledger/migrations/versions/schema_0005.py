"""When Label Studio last told of a connection's labels."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what nobody has told of yet."""
    op.add_column(
        "connections", sa.Column("hinted_at", sa.Float, nullable=False, server_default="0")
    )
