"""How an account makes each task once: imports that were begun, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.lease import PAGE, plain
from ls_pipeline.resources.ledger.objects import WHOLE_OBJECT, Objects
from ls_pipeline.resources.ledger.records import Attempt, LoadedRow
from ls_pipeline.resources.ledger.tables import attempts, objects, projects, quarantine, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.records import Quarantined

LOOKS = (30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds between looks for tasks that arrive late; a pass that runs anyway looks, too."""


class Attempts(Objects):
    """The part of an `Account` about imports and what they made."""

    def attempts(self) -> list[Attempt]:
        """List the imports whose outcome is not recorded or in doubt, oldest first."""
        query = sa.select(attempts).where(attempts.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            found = db.execute(query.order_by(attempts.c.id)).all()
        return [
            Attempt(
                one.id,
                one.project_id,
                one.above,
                tuple(LoadedRow(*row) for row in one.rows),
                one.opened_at,
                one.looks,
                one.look_at,
            )
            for one in found
        ]

    def has_attempt_due(self) -> bool:
        """Tell whether an attempt is open, or one in doubt is to be looked at again."""
        c = attempts.c
        due = sa.select(c.id).where(c.connection == self.id, c.look_at <= self.ledger.clock())
        with self.ledger.engine.connect() as db:
            return db.scalar(due.limit(1)) is not None

    def open_attempt(
        self, lease: Lease, project_id: int, above: int, rows: Sequence[LoadedRow]
    ) -> Attempt:
        """Record that these rows are about to be imported."""
        plain = [[row.key, row.row, row.version, row.digest] for row in rows]
        now = self.ledger.clock()
        with self._write(lease) as db:
            result = db.execute(
                attempts.insert().values(
                    connection=self.id,
                    project_id=project_id,
                    above=above,
                    rows=plain,
                    opened_at=now,
                )
            )
            key: Any = result.inserted_primary_key
        return Attempt(int(key[0]), project_id, above, tuple(rows), now)

    def doubt(self, lease: Lease, attempt: Attempt) -> None:
        """Keep an attempt under watch, of which tasks may still arrive; in the end let it go."""
        now, mine = self.ledger.clock(), attempts.c.id == attempt.id
        if now < attempt.look_at:
            return
        with self._write(lease) as db:
            if attempt.looks == len(LOOKS):
                db.execute(attempts.delete().where(mine))
            else:
                values = {"looks": attempt.looks + 1, "look_at": now + LOOKS[attempt.looks]}
                db.execute(attempts.update().where(mine).values(values))

    def record(  # noqa: PLR0913 - one transaction, whatever belongs into it
        self,
        lease: Lease,
        *,
        attempt: Attempt | None = None,
        loaded: Iterable[LoadedRow] = (),
        rejections: Iterable[Quarantined] = (),
        finished: Iterable[KnownObject] = (),
        forgotten: Iterable[str] = (),
        dropped: Iterable[LoadedRow] = (),
    ) -> None:
        """Record what became of rows and objects, and close the attempt, all at once.

        An object with loaded rows is known from then on, so that its removal is seen even when
        nobody comes to finish it, and seen again where it was removed before. ``finished`` objects
        are dealt with, in that version: rejections about their other versions are dropped.
        ``forgotten`` are keys that are gone and left no tasks; ``dropped`` are rows whose tasks are
        deleted.
        """
        loaded, finished, forgotten = list(loaded), list(finished), list(forgotten)
        with self._write(lease) as db:
            if attempt:
                db.execute(attempts.delete().where(attempts.c.id == attempt.id))
                self._see(db, attempt, loaded)
            self._drop_old_rejections(db, finished)
            for table in (objects, quarantine):
                mine = table.c.connection == self.id
                db.execute(table.delete().where(mine, table.c.key.in_(forgotten)))
            self._drop(db, tasks.c.key, tasks.c.row, [(row.key, row.row) for row in dropped])
            self._upsert(db, tasks, ({**plain(row)} for row in loaded))
            done = {one.key for one in finished}
            begun_keys = {row.key for row in loaded} - done
            self._compare_anew(db, {*begun_keys, *done, *forgotten})
            begun = (KnownObject(key, "", 0, State.BEGUN) for key in begun_keys)
            gone = objects.c.state == State.REMOVED.value
            self._upsert(db, objects, map(_of_object, begun), replace=gone)
            self._upsert(db, objects, map(_of_object, finished))
            self._upsert(
                db,
                quarantine,
                (
                    {**plain(one), "row": WHOLE_OBJECT if one.row is None else one.row}
                    for one in rejections
                ),
            )

    def _see(self, db: sa.Connection, attempt: Attempt, loaded: Sequence[LoadedRow]) -> None:
        """Count what an import made as seen, where no other task came before it."""
        imported = {(row.key, row.row) for row in attempt.rows}
        ids = [row.task_id for row in loaded if (row.key, row.row) in imported]
        c, newest = projects.c, max(ids, default=0)
        mine = sa.and_(c.connection == self.id, c.project_id == attempt.project_id)
        here = sa.and_(mine, c.seen >= attempt.above, c.seen < newest)
        db.execute(projects.update().where(here).values(seen=newest))

    def _drop_old_rejections(self, db: sa.Connection, finished: Sequence[KnownObject]) -> None:
        """Drop what stands against other versions of objects; few have anything against them."""
        versions = {one.key: "" if one.state is State.REMOVED else one.version for one in finished}
        standing = self._rejections_of(db, list(versions))
        old = [(key, version) for key, version in standing if version != versions[key]]
        self._drop(db, quarantine.c.key, quarantine.c.version, old)

    def _rejections_of(self, db: sa.Connection, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
        c = quarantine.c
        any_at_all = sa.select(c.key).where(c.connection == self.id).limit(1)
        if db.scalar(any_at_all) is None:
            return
        for start in range(0, len(keys), PAGE):
            some = c.key.in_(keys[start : start + PAGE])
            found = db.execute(sa.select(c.key, c.version).where(c.connection == self.id, some))
            yield from map(tuple, found)

    def _drop(
        self,
        db: sa.Connection,
        first: sa.Column[Any],
        second: sa.Column[Any],
        values: Sequence[tuple[Any, Any]],
    ) -> None:
        """Delete the rows of a table with these values in two columns."""
        table = first.table
        mine = table.c.connection == self.id
        these = (first == sa.bindparam("first"), second == sa.bindparam("second"))
        if values:
            gone = sa.delete(table).where(mine, *these)
            db.execute(gone, [{"first": one, "second": other} for one, other in values])


def _of_object(one: KnownObject) -> dict[str, Any]:
    return {**one._asdict(), "state": one.state.value}
