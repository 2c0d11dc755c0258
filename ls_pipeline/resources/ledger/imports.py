"""Imports that began, and what became of them: how each task is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.objects import WHOLE_OBJECT, forget_fingerprints
from ls_pipeline.resources.ledger.records import PendingImport, TaskRow
from ls_pipeline.resources.ledger.section import PAGE, Records, Writer, columns
from ls_pipeline.resources.ledger.tables import (
    objects,
    pending_imports,
    projects,
    quarantine,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.resources.ledger.records import LedgerUpdate

RECHECK_SECONDS = (30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
"""Pauses between searches for tasks that arrive late. A run that happens anyway searches too."""


class ImportRecords(Records):
    """Imports whose outcome is open."""

    def pending(self) -> list[PendingImport]:
        """Return the imports whose outcome is open, oldest first."""
        query = sa.select(pending_imports).where(pending_imports.c.connection == self.id)
        with self.database.engine.connect() as db:
            rows = db.execute(query.order_by(pending_imports.c.id)).all()
        return [
            PendingImport(
                row.id,
                row.project_id,
                row.above,
                tuple(TaskRow(*values) for values in row.rows),
                row.began_at,
                row.rechecks,
                row.recheck_at,
            )
            for row in rows
        ]

    def has_pending_due(self) -> bool:
        """Return whether an import has no outcome yet, or is due for another search."""
        c = pending_imports.c
        due = sa.select(c.id).where(c.connection == self.id, c.recheck_at <= self.database.now())
        with self.database.engine.connect() as db:
            return db.scalar(due.limit(1)) is not None


class ImportWriter(ImportRecords, Writer):
    """Records imports, and what became of rows and objects."""

    def begin(self, project_id: int, above: int, rows: Sequence[TaskRow]) -> PendingImport:
        """Record that these rows are about to be imported."""
        now = self.database.now()
        values = {
            "connection": self.id,
            "project_id": project_id,
            "above": above,
            "rows": [[row.key, row.row, row.version, row.digest] for row in rows],
            "began_at": now,
        }
        with self.fence.transaction() as db:
            result = db.execute(pending_imports.insert().values(values))
            key: Any = result.inserted_primary_key
        return PendingImport(int(key[0]), project_id, above, tuple(rows), now)

    def keep_pending(self, pending: PendingImport) -> None:
        """Schedule the next search for late tasks; after the last search, forget the import."""
        now, this = self.database.now(), pending_imports.c.id == pending.id
        if now < pending.recheck_at:
            return
        with self.fence.transaction() as db:
            if pending.rechecks == len(RECHECK_SECONDS):
                db.execute(pending_imports.delete().where(this))
            else:
                again = now + RECHECK_SECONDS[pending.rechecks]
                values = {"rechecks": pending.rechecks + 1, "recheck_at": again}
                db.execute(pending_imports.update().where(this).values(values))

    def record(self, update: LedgerUpdate, closing: PendingImport | None = None) -> None:
        """Record what became of rows and objects, and close an import, in one transaction.

        An object is known as soon as one of its rows is loaded. So its removal is noticed even if
        no run finishes it. An object that is finished in one version drops what is in quarantine
        of its other versions.
        """
        done = {known.key for known in update.finished}
        begun_keys = {row.key for row in update.loaded} - done
        begun = [KnownObject(key, "", 0, State.BEGUN) for key in begun_keys]
        was_removed = objects.c.state == State.REMOVED.value
        with self.fence.transaction() as db:
            if closing:
                db.execute(pending_imports.delete().where(pending_imports.c.id == closing.id))
                self._raise_low_water_mark(db, closing, update.loaded)
            self._drop_old_quarantine(db, update.finished)
            for table in (objects, quarantine):
                own = table.c.connection == self.id
                db.execute(table.delete().where(own, table.c.key.in_(update.forgotten)))
            dropped = [(row.key, row.row) for row in update.dropped]
            self._delete(db, tasks.c.key, tasks.c.row, dropped)
            self.upsert(db, tasks, map(columns, update.loaded))
            forget_fingerprints(db, self.id, {*begun_keys, *done, *update.forgotten})
            self.upsert(db, objects, map(_object_columns, begun), replace=was_removed)
            self.upsert(db, objects, map(_object_columns, update.finished))
            self.upsert(
                db,
                quarantine,
                (
                    {**columns(item), "row": WHOLE_OBJECT if item.row is None else item.row}
                    for item in update.quarantined
                ),
            )

    def _raise_low_water_mark(
        self, db: sa.Connection, pending: PendingImport, loaded: Sequence[TaskRow]
    ) -> None:
        """Count the tasks of an import as seen, unless another task came before them."""
        imported = {(row.key, row.row) for row in pending.rows}
        ids = [row.task_id for row in loaded if (row.key, row.row) in imported]
        c, newest = projects.c, max(ids, default=0)
        project = sa.and_(c.connection == self.id, c.project_id == pending.project_id)
        lower = sa.and_(project, c.seen >= pending.above, c.seen < newest)
        db.execute(projects.update().where(lower).values(seen=newest))

    def _drop_old_quarantine(self, db: sa.Connection, finished: Sequence[KnownObject]) -> None:
        """Drop what is in quarantine of other versions of objects."""
        versions = {
            known.key: "" if known.state is State.REMOVED else known.version for known in finished
        }
        current = self._quarantined_versions(db, list(versions))
        old = [(key, version) for key, version in current if version != versions[key]]
        self._delete(db, quarantine.c.key, quarantine.c.version, old)

    def _quarantined_versions(
        self, db: sa.Connection, keys: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        c = quarantine.c
        if db.scalar(sa.select(c.key).where(c.connection == self.id).limit(1)) is None:
            return
        for start in range(0, len(keys), PAGE):
            some = c.key.in_(keys[start : start + PAGE])
            rows = db.execute(sa.select(c.key, c.version).where(c.connection == self.id, some))
            yield from map(tuple, rows)

    def _delete(
        self,
        db: sa.Connection,
        first: sa.Column[Any],
        second: sa.Column[Any],
        values: Sequence[tuple[Any, Any]],
    ) -> None:
        """Delete the rows of a table with these values in two columns."""
        if not values:
            return
        table = first.table
        matches = (first == sa.bindparam("first"), second == sa.bindparam("second"))
        delete = sa.delete(table).where(table.c.connection == self.id, *matches)
        db.execute(delete, [{"first": left, "second": right} for left, right in values])


def _object_columns(known: KnownObject) -> dict[str, Any]:
    return {**known._asdict(), "state": known.state.value}
