"""Copies a ledger to another database, such as from SQLite to PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.tables import connections, identity, metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.ledger.ledger import Ledger

ROWS = 1000
"""Rows copied at once."""


def copy_ledger(
    source: Ledger, target: Ledger, progress: Callable[[str, int, int], None]
) -> dict[str, int]:
    """Copy everything to an empty ledger, in one transaction; return the rows of each table.

    Leases are not copied. ``progress(table, done, total)`` is called as the copy goes on.

    Raises ``LedgerError`` if a run works on the source, or the target holds connections; then
    nothing was copied.
    """
    for name in source.names():
        if holder := source.connection_ledger(name).held_by():
            raise LedgerError(
                f"{holder} works on connection {name!r}.", hint="Stop everything first."
            )
    copied = {}
    with source.database.engine.connect() as source_db, target.database.engine.begin() as target_db:
        if target_db.execute(sa.select(connections.c.id).limit(1)).first():
            raise LedgerError(
                "The ledger to copy to holds connections already.", hint="Use an empty database."
            )
        target_db.execute(identity.delete())  # the copy is the same ledger
        for table in metadata.sorted_tables:
            total = source_db.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            copied[table.name] = _copy(table, source_db, target_db, total, progress)
        target_db.execute(connections.update().values(holder="", leased_until=0.0))
        _continue_ids(target_db)
    return copied


def _copy(
    table: sa.Table,
    source_db: sa.Connection,
    target_db: sa.Connection,
    total: int,
    progress: Callable[[str, int, int], None],
) -> int:
    done = 0
    rows = source_db.execution_options(stream_results=True).execute(sa.select(table))
    for some in rows.mappings().partitions(ROWS):
        target_db.execute(table.insert(), [dict(row) for row in some])
        done += len(some)
        progress(table.name, done, total)
    return done


def _continue_ids(db: sa.Connection) -> None:
    """Have PostgreSQL continue behind the copied ids, as SQLite does by itself."""
    if db.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        if "id" in table.columns:
            highest = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0) + 1).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            db.execute(sa.select(sa.func.setval(sequence, highest, False)))
