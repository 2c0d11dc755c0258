"""What sensors saw of connections, and what they could not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.records import QUEUE
from ls_pipeline.resources.ledger.tables import changes, connections, looks
from ls_pipeline.resources.ledger.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ls_pipeline.resources.ledger.database import Database


def record_looks(database: Database, work: str, found: Mapping[str, str]) -> None:
    """Record why looks at connections failed, by name; an empty reason: it did not.

    Writes only what changed. It needs no lease, so that no run is disturbed.
    """
    now, failed, passed = database.now(), [], []
    for row in _known(database, looks, work, found):
        failure = found[row.name]
        if failure and failure != row.failure:
            since = now if row.since is None else row.since
            failed.append({"connection": row.id, "work": work, "failure": failure, "since": since})
        elif row.failure and not failure:
            passed.append(row.id)
    _write(database, looks, work, failed, passed)


def record_changes(database: Database, work: str, found: Mapping[str, int | None]) -> None:
    """Record of how many objects looks found changes, by name; 0: unknown; None: no change.

    The time is that of the first look that found it. Writes only what changed, without a lease.
    """
    now, changed, unchanged = database.now(), [], []
    for row in _known(database, changes, work, found):
        objects = found[row.name]
        if objects is not None and (row.since is None or objects > row.objects):
            since = now if row.since is None else row.since
            changed.append({"connection": row.id, "work": work, "objects": objects, "since": since})
        elif objects is None and row.since is not None:
            unchanged.append(row.id)
    _write(database, changes, work, changed, unchanged)


def forget_looks(db: sa.Connection, connection_id: int, work: str) -> None:
    """Forget what was seen before a run that succeeded. That it ran shows that the queue moves."""
    failed = sa.and_(looks.c.connection == connection_id, looks.c.work.in_([work, QUEUE]))
    db.execute(looks.delete().where(failed))
    seen = sa.and_(changes.c.connection == connection_id, changes.c.work == work)
    db.execute(changes.delete().where(seen))


def _known(
    database: Database, table: sa.Table, work: str, names: Collection[str]
) -> list[sa.Row[Any]]:
    """Return what a table has of some connections in use; None in each column if nothing."""
    if not names:
        return []
    c, own = connections.c, [column for column in table.c if not column.primary_key]
    of_work = sa.and_(table.c.connection == c.id, table.c.work == work)
    query = sa.select(c.id, c.name, *own).outerjoin(table, of_work).where(~c.removed)
    with database.engine.connect() as db:
        return [row for row in db.execute(query) if row.name in names]


def _write(
    database: Database,
    table: sa.Table,
    work: str,
    rows: Sequence[dict[str, Any]],
    gone: Sequence[int],
) -> None:
    if rows or gone:
        with database.engine.begin() as db:
            upsert(db, table, rows)
            own = sa.and_(table.c.work == work, table.c.connection.in_(gone))
            db.execute(table.delete().where(own))
