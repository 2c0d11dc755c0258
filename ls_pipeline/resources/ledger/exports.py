"""What an account knows of a target: completions that are there, and snapshots of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.exports import TOMBSTONE
from ls_pipeline.resources.ledger.lease import PAGE, Leased, plain
from ls_pipeline.resources.ledger.records import Exported, Training
from ls_pipeline.resources.ledger.tables import completions, connections, last_revision
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.settings.model import Target


class Exports(Leased):
    """The part of an `Account` about completions and snapshots."""

    def exported(self, task_ids: Sequence[int]) -> dict[int, Exported]:
        """Give what was last written for each of these tasks, where anything was."""
        c = completions.c
        found: dict[int, Exported] = {}
        query = sa.select(c.task_id, c.updated_at, c.digest, c.uri, c.annotations)
        with self.ledger.engine.connect() as db:
            for start in range(0, len(task_ids), PAGE):
                some = task_ids[start : start + PAGE]
                mine = query.where(c.connection == self.id, c.task_id.in_(some))
                found |= {row.task_id: Exported(*row) for row in db.execute(mine)}
        return found

    def polled(self) -> RecentChanges:
        """Give the Label Studio time up to which all is exported, and the tasks touched since.

        The time is empty at first: then the tasks are none.
        """
        c = connections.c
        query = sa.select(c.polled_to, c.polled_count, c.polled_newest).where(c.id == self.id)
        with self.ledger.engine.connect() as db:
            return RecentChanges(*db.execute(query).one())

    def annotated(self) -> int:
        """Give the count of annotated tasks in the project when they were last exported."""
        query = sa.select(connections.c.annotated).where(connections.c.id == self.id)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) or 0

    def living(self) -> dict[int, Exported]:
        """Give what was last written for all tasks that are not known to be deleted, by id."""
        c = completions.c
        query = sa.select(c.task_id, c.updated_at, c.digest, c.uri, c.annotations)
        mine = query.where(c.connection == self.id, c.digest != TOMBSTONE)
        with self.ledger.engine.connect() as db:
            return {row.task_id: Exported(*row) for row in db.execute(mine)}

    def exported_ids(self) -> list[int]:
        """List the tasks that have annotations in the target, by id."""
        return [task_id for task_id, _ in self.exported_contents()]

    def count_exported(self) -> tuple[int, int]:
        """Count the tasks that have annotations in the target, and the annotations."""
        c = completions.c
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.annotations), 0))
        with self.ledger.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.annotations > 0)).one()
        return int(row[0]), int(row[1])

    def exported_contents(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[tuple[int, str]]:
        """Give (task id, digest) of the tasks that have annotations in the target, by id."""
        return ((row.task_id, row.digest) for row in self._in_target(first, last))

    def exported_files(self) -> Iterator[tuple[int, str]]:
        """Give (task id, URI) of the tasks that have annotations in the target, by id."""
        return ((row.task_id, row.uri) for row in self._in_target())

    def _in_target(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[sa.Row[Any]]:
        c = completions.c
        query = sa.select(c.task_id, c.digest, c.uri).where(
            c.connection == self.id, c.annotations > 0, c.task_id <= last
        )
        while True:
            page = query.where(c.task_id >= first).order_by(c.task_id).limit(PAGE)
            with self.ledger.engine.connect() as db:
                rows = db.execute(page).all()
            if not rows:
                return
            yield from rows
            first = rows[-1].task_id + 1

    def forget_exports(self, lease: Lease, task_ids: Sequence[int]) -> None:
        """Forget what was written for some tasks: the next export looks at all, and writes them."""
        c = completions.c
        with self._write(lease) as db:
            for start in range(0, len(task_ids), PAGE):
                some = task_ids[start : start + PAGE]
                db.execute(completions.delete().where(c.connection == self.id, c.task_id.in_(some)))
            db.execute(self._mine(lease).values(polled_to=""))

    def training(self) -> Training:
        """Tell how training data stands."""
        c = connections.c
        query = sa.select(c.exports_moved, c.snapshot_of, c.snapshot_at, c.snapshot_uri)
        with self.ledger.engine.connect() as db:
            return Training(*db.execute(query.where(c.id == self.id)).one())

    def record_snapshot(self, lease: Lease, moved: int, uri: str) -> None:
        """Record that a snapshot holds all that had changed by count ``moved``."""
        values = {"snapshot_of": moved, "snapshot_uri": uri, "snapshot_at": self.ledger.clock()}
        with self._write(lease) as db:
            db.execute(self._mine(lease).values(values))

    def record_exports(
        self, lease: Lease, exported: Iterable[Exported], *, moved: bool = True
    ) -> None:
        """Record what is in the target; ``moved`` says whether any of it is new there."""
        with self._write(lease) as db:
            self._upsert(db, completions, ({**plain(one)} for one in exported))
            if moved:
                db.execute(self._mine(lease).values(exports_moved=connections.c.exports_moved + 1))

    def record_exported(
        self, lease: Lease, target: Target, polled: RecentChanges, annotated: int, annotations: int
    ) -> None:
        """Record that all is exported: up to which Label Studio time, of how many tasks.

        Where another target was set meanwhile, the next export looks at all of them again.
        """
        values = {
            "polled_to": polled.since,
            "polled_count": polled.count,
            "polled_newest": polled.newest,
            "annotated": annotated,
            "annotations": annotations,
        }
        with self._write(lease) as db:
            in_force = Connection(**db.execute(last_revision(self.id)).one().document)
            if in_force.target != target:
                values["polled_to"] = ""
            db.execute(self._mine(lease).values(values))
