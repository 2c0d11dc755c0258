"""Up to which task id of each project an account knows its tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add it: so far nothing was looked for above the newest task that is known."""
    op.add_column("projects", sa.Column("seen", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(
        "UPDATE projects SET seen = (SELECT coalesce(max(tasks.task_id), 0) FROM tasks "
        "WHERE tasks.connection = projects.connection)"
    )
