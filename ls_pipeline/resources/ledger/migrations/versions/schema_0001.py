"""The first schema. The release of 0.1.0 freezes it here, table by table."""

from alembic import op

from ls_pipeline.resources.ledger.schema import SCHEMAS
from ls_pipeline.resources.ledger.tables import metadata

revision = SCHEMAS[0]
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    metadata.create_all(op.get_bind())
