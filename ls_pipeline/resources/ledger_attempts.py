"""How an account makes each task once: imports that were begun, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.changes import KnownObject, State
from ls_pipeline.resources.ledger_lease import plain
from ls_pipeline.resources.ledger_objects import WHOLE_OBJECT, Objects
from ls_pipeline.resources.ledger_records import Attempt, LoadedRow
from ls_pipeline.resources.ledger_tables import attempts, objects, quarantine, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ls_pipeline.resources.ledger_lease import Lease
    from ls_pipeline.resources.ledger_records import Quarantined

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
        complaints: Iterable[Quarantined] = (),
        finished: Iterable[KnownObject] = (),
        forgotten: Iterable[str] = (),
        dropped: Iterable[LoadedRow] = (),
    ) -> None:
        """Record what became of rows and objects, and close the attempt, all at once.

        An object with loaded rows is known from then on, so that its removal is seen even when
        nobody comes to finish it, and seen again where it was removed before. ``finished`` objects
        are dealt with, in that version: complaints about their other versions are dropped.
        ``forgotten`` are keys that are gone and left no tasks; ``dropped`` are rows whose tasks are
        deleted.
        """
        loaded, finished, forgotten = list(loaded), list(finished), list(forgotten)
        with self._write(lease) as db:
            if attempt:
                db.execute(attempts.delete().where(attempts.c.id == attempt.id))
            self._drop_old_complaints(db, finished)
            for table in (objects, quarantine):
                mine = table.c.connection == self.id
                db.execute(table.delete().where(mine, table.c.key.in_(forgotten)))
            for row in dropped:
                c = tasks.c
                where = (c.connection == self.id, c.key == row.key, c.row == row.row)
                db.execute(tasks.delete().where(*where))
            self._upsert(db, tasks, ({**plain(row)} for row in loaded))
            begun = (KnownObject(key, "", 0, State.BEGUN) for key in {row.key for row in loaded})
            touched = {*(row.key for row in loaded), *(one.key for one in finished), *forgotten}
            self._compare_anew(db, touched)
            gone = objects.c.state == State.REMOVED.value
            self._upsert(db, objects, map(_of_object, begun), replace=gone)
            self._upsert(db, objects, map(_of_object, finished))
            self._upsert(
                db,
                quarantine,
                (
                    {**plain(one), "row": WHOLE_OBJECT if one.row is None else one.row}
                    for one in complaints
                ),
            )

    def _drop_old_complaints(self, db: sa.Connection, finished: Sequence[KnownObject]) -> None:
        c = quarantine.c
        gone = (
            quarantine.delete()
            .where(c.connection == self.id, c.key == sa.bindparam("the_key"))
            .where(c.version != sa.bindparam("the_version"))
        )
        if finished:
            db.execute(
                gone,
                [
                    {
                        "the_key": one.key,
                        "the_version": "" if one.state is State.REMOVED else one.version,
                    }
                    for one in finished
                ],
            )


def _of_object(one: KnownObject) -> dict[str, Any]:
    return {**one._asdict(), "state": one.state.value}
