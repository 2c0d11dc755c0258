"""How Alembic runs ``versions``: in the transaction of `ls_pipeline.resources.ledger.schema`."""

from alembic import context

context.configure(**context.config.attributes)
context.run_migrations()
