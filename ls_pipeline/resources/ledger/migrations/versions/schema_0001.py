"""The first schema. The release of 0.1.0 freezes it here, table by table."""

import uuid

from alembic import op

from ls_pipeline.resources.ledger.schema import SCHEMAS
from ls_pipeline.resources.ledger.tables import identity, metadata

revision = SCHEMAS[0]
down_revision = None


def upgrade() -> None:
    """Make all tables, and set the ledger's id."""
    metadata.create_all(op.get_bind())
    op.execute(identity.insert().values(one=1, ledger=uuid.uuid4().hex))
