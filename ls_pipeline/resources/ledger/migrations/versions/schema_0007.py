"""Which tasks an export saw that had been touched lately."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add it: of exports so far it is not known, and the next one lists them."""
    count = sa.Column("polled_count", sa.Integer, nullable=False, server_default="0")
    op.add_column("connections", count)
    newest = sa.Column("polled_newest", sa.Text, nullable=False, server_default="")
    op.add_column("connections", newest)
