"""A ledger on its way to another database, as from SQLite to PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.tables import connections, metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.ledger.ledger import Ledger

ROWS = 1000
"""Copied at once."""


def copy_ledger(
    source: Ledger, target: Ledger, progress: Callable[[str, int, int], None]
) -> dict[str, int]:
    """Copy everything to an empty ledger, in one transaction; give the rows of each table.

    Leases are not copied. ``progress(table, done, total)`` is told how far it has come.

    Raises ``LedgerError`` when a run works on the source, or the target holds connections;
    then nothing was copied.
    """
    for name in source.names():
        if holder := source.account(name).held_by():
            raise LedgerError(f"{holder} works on connection {name!r}; stop everything first.")
    copied = {}
    with source.engine.connect() as here, target.engine.begin() as there:
        if there.execute(sa.select(connections.c.id).limit(1)).first():
            raise LedgerError(
                "The ledger to copy to holds connections already; give an empty database."
            )
        for table in metadata.sorted_tables:
            total = here.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            copied[table.name] = _copy(table, here, there, total, progress)
        there.execute(connections.update().values(holder="", leased_until=0.0))
        _go_on_counting(there)
    return copied


def _copy(
    table: sa.Table,
    here: sa.Connection,
    there: sa.Connection,
    total: int,
    progress: Callable[[str, int, int], None],
) -> int:
    done = 0
    rows = here.execution_options(stream_results=True).execute(sa.select(table))
    for some in rows.mappings().partitions(ROWS):
        there.execute(table.insert(), [dict(row) for row in some])
        done += len(some)
        progress(table.name, done, total)
    return done


def _go_on_counting(db: sa.Connection) -> None:
    """Let PostgreSQL give the next id after those that were copied, as SQLite does by itself."""
    if db.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        if "id" in table.columns:
            highest = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0) + 1).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            db.execute(sa.select(sa.func.setval(sequence, highest, False)))
