"""How Alembic runs what is in ``versions``: in the transaction of `ledger_schema`."""

from alembic import context

context.configure(**context.config.attributes)
context.run_migrations()
