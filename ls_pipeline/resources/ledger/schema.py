"""The ledger's schema: which one a database has, and the way forward to this version's.

Alembic walks it. It is imported only where there is a step to take: a process that opens a
ledger of its own version asks one question.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError

MIGRATIONS = Path(__file__).with_name("migrations")

NUMBER_TABLE = "ledger_schema"
"""Not named as Alembic would: Dagster's storage has its own there, if both share a database."""

MIGRATING = 1_818_456_420
"""The number of PostgreSQL's lock on migrating; any will do that nobody else takes."""

NO_SCHEMA = "0000"
"""The number of an empty database, and of a ledger from before schemas were counted."""


def known_schemas() -> list[str]:
    """List the numbers of the schemas that this version knows; the last is its own."""
    return sorted(file.stem.partition("_")[2] for file in MIGRATIONS.glob("versions/schema_*.py"))


def own_schema() -> str:
    """Give the number of this version's schema."""
    return known_schemas()[-1]


def schema_of(db: sa.Connection) -> str:
    """Give the number of a database's schema."""
    if not sa.inspect(db).has_table(NUMBER_TABLE):
        return NO_SCHEMA
    number = sa.column("version_num", sa.Text)
    return db.scalar(sa.select(number).select_from(sa.table(NUMBER_TABLE))) or NO_SCHEMA


def migrate(engine: sa.Engine, name: str) -> str:
    """Bring a ledger to this version's schema, whole or not at all; give what it had before.

    Of several processes that come at once, one does it, and the others wait.

    Raises ``LedgerError`` when the ledger, called ``name``, is a newer version's.
    """
    own = own_schema()
    with engine.connect() as db:
        before = schema_of(db)
    if before == own:
        return before
    with engine.begin() as db:
        _wait_for_others(db)
        before = schema_of(db)
        if before not in (NO_SCHEMA, *known_schemas()):
            raise LedgerError(
                f"The ledger {name} is of a newer version of ls-pipeline (its schema is {before}, "
                f"and this version's {own}); install the newer version again, or restore "
                "the backup from before its upgrade."
            )
        if before != own:
            _upgrade(db)
    return before


def _wait_for_others(db: sa.Connection) -> None:
    if db.dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))
    elif db.dialect.name == "sqlite":
        db.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(db: sa.Connection) -> None:
    from alembic import command, config  # a tenth of a second, once a version

    alembic = config.Config(attributes={"connection": db, "version_table": NUMBER_TABLE})
    alembic.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(alembic, "head")
