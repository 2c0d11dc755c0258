"""The ledger's schema: which one a database has, and the upgrade to this version's.

Alembic does the upgrade. It is imported only if there is a step to take: a process that opens a
ledger of its own version asks one question.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.tables import connections

MIGRATIONS = Path(__file__).with_name("migrations")

SCHEMAS = ("0001_03fed892",)
"""The schemas that this version knows, oldest first; the last is its own.

Until 0.1.0 is released, the first schema is edited in place, and the digest behind its number
changes with it.
"""

NUMBER_TABLE = "ledger_schema"
"""Not Alembic's own name: Dagster's storage uses that, and may share the database."""

MIGRATING = 1_818_456_420
"""The number of PostgreSQL's lock on migrating; any number that no other program takes."""

NO_SCHEMA = "0000"
"""The schema of an empty database."""

UNNUMBERED = "unnumbered"
"""The schema of a ledger from before schemas had numbers, or that lost its number."""


def own_schema() -> str:
    """Return this version's schema."""
    return SCHEMAS[-1]


def schema_of(db: sa.Connection) -> str:
    """Return a database's schema."""
    inspector, number = sa.inspect(db), sa.column("version_num", sa.Text)
    if inspector.has_table(NUMBER_TABLE):
        found = db.scalar(sa.select(number).select_from(sa.table(NUMBER_TABLE)))
        if found:
            return str(found)
    return UNNUMBERED if inspector.has_table(connections.name) else NO_SCHEMA


def migrate(engine: sa.Engine, name: str) -> str:
    """Bring a ledger to this version's schema, whole or not at all; return the one it had.

    If several processes come at once, one does it and the others wait.

    Raises ``LedgerError`` if the ledger, called ``name``, is of a newer version or from before the
    first release.
    """
    with engine.connect() as db:
        before = schema_of(db)
    if before == own_schema():
        return before
    with engine.begin() as db:
        _wait_for_others(db)
        before = schema_of(db)
        if before not in (NO_SCHEMA, *SCHEMAS):
            raise _unknown(before, name)
        if before != own_schema():
            _upgrade(db)
    return before


def _unknown(schema: str, name: str) -> LedgerError:
    if schema.partition("_")[0] > own_schema().partition("_")[0] and "_" in schema:
        return LedgerError(
            f"The ledger {name} is of a newer version of ls-pipeline (its schema is {schema}, "
            f"and this version's {own_schema()}).",
            hint="Install the newer version again, or restore the backup from before its upgrade.",
        )
    if schema == UNNUMBERED:
        return LedgerError(
            f"The ledger {name} has tables, but no number of their schema in {NUMBER_TABLE}.",
            hint="Restore a backup. Without one, move it away and add the connections again: the "
            "new ledger takes over their tasks.",
        )
    return LedgerError(
        f"The ledger {name} is from before the first release of ls-pipeline (its schema is "
        f"{schema}, and this version's {own_schema()}).",
        hint="Move it away and add the connections again: the new ledger takes over their tasks.",
    )


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
