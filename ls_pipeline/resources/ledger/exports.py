"""Completions that are in the target, and snapshots of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.errors import StoredSettingsError
from ls_pipeline.domain.exports import LEFT_ALONE, TOMBSTONE
from ls_pipeline.domain.snapshot.parts import Content
from ls_pipeline.resources.ledger.records import Exported, SnapshotState
from ls_pipeline.resources.ledger.section import PAGE, Records, Writer, columns
from ls_pipeline.resources.ledger.settings import parse_settings
from ls_pipeline.resources.ledger.tables import (
    completions,
    connections,
    intents,
    last_revision,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.resources.ledger.records import Intent
    from ls_pipeline.settings.model import Target

_EXPORTED = (
    completions.c.task_id,
    completions.c.updated_at,
    completions.c.digest,
    completions.c.uri,
    completions.c.annotations,
    completions.c.version,
    completions.c.size,
)


class ExportRecords(Records):
    """What the exports wrote, and how far they and the snapshots have come."""

    def last_written(self, task_ids: Sequence[int]) -> dict[int, Exported]:
        """Return what was last written for each of these tasks; a task never written is absent."""
        c, records = completions.c, dict[int, Exported]()
        query = sa.select(*_EXPORTED).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            for batch in batches(task_ids, PAGE):
                some = query.where(c.task_id.in_(batch))
                records |= {row.task_id: Exported(*row) for row in db.execute(some)}
        return records

    def task_ids_written(self) -> set[int]:
        """Return the ids of all tasks that something was written for."""
        query = sa.select(completions.c.task_id).where(completions.c.connection == self.id)
        with self.database.engine.connect() as db:
            return set(db.scalars(query))

    def living(self) -> dict[int, Exported]:
        """Return what was last written for all tasks that are not known to be gone, by id."""
        c = completions.c
        gone = (TOMBSTONE, LEFT_ALONE)
        query = sa.select(*_EXPORTED).where(c.connection == self.id, c.digest.not_in(gone))
        with self.database.engine.connect() as db:
            return {row.task_id: Exported(*row) for row in db.execute(query)}

    def unfinished(self) -> list[int]:
        """Return the ids of tasks whose file a run began to write, and none recorded it."""
        c = completions.c
        query = sa.select(c.task_id).where(c.connection == self.id, c.digest == "")
        with self.database.engine.connect() as db:
            return list(db.scalars(query.order_by(c.task_id)))

    def polled(self) -> RecentChanges:
        """Return the Label Studio time of the last complete export, and the tasks touched since.

        Before the first export both are empty.
        """
        c = connections.c
        query = sa.select(c.polled_to, c.polled_count, c.polled_newest).where(c.id == self.id)
        with self.database.engine.connect() as db:
            return RecentChanges(*db.execute(query).one())

    def annotated(self) -> int:
        """Return how many annotated tasks Label Studio counted at the last export."""
        query = sa.select(connections.c.annotated).where(connections.c.id == self.id)
        with self.database.engine.connect() as db:
            return db.scalar(query) or 0

    def count(self) -> tuple[int, int]:
        """Count the tasks that have annotations in the target, and their annotations."""
        c = completions.c
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.annotations), 0))
        with self.database.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.annotations > 0)).one()
        return int(row[0]), int(row[1])

    def task_ids(self) -> list[int]:
        """Return the ids of the tasks that have annotations in the target, in order."""
        return [row.task_id for row in self._in_target()]

    def contents(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[Content]:
        """Return what is in the target of the tasks that have annotations there, by id."""
        return (Content(row.task_id, row.digest, row.size) for row in self._in_target(first, last))

    def uris(self) -> Iterator[tuple[int, str]]:
        """Return (task id, URI) of the tasks that have annotations in the target, by id."""
        return ((row.task_id, row.uri) for row in self._in_target())

    def _in_target(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[sa.Row[Any]]:
        c = completions.c
        query = sa.select(c.task_id, c.digest, c.uri, c.size).where(
            c.connection == self.id, c.annotations > 0, c.task_id <= last
        )
        while True:
            page = query.where(c.task_id >= first).order_by(c.task_id).limit(PAGE)
            with self.database.engine.connect() as db:
                rows = db.execute(page).all()
            if not rows:
                return
            yield from rows
            first = rows[-1].task_id + 1

    def snapshot_state(self) -> SnapshotState:
        """Return how far snapshots have followed the exports."""
        c = connections.c
        query = sa.select(c.export_changes, c.snapshot_changes, c.snapshot_at, c.snapshot_uri)
        with self.database.engine.connect() as db:
            return SnapshotState(*db.execute(query.where(c.id == self.id)).one())


class ExportWriter(ExportRecords, Writer):
    """Records exports and snapshots."""

    def record(
        self,
        written: Iterable[Exported],
        *,
        changed: bool = True,
        closing: Intent | None = None,
    ) -> None:
        """Record what is in the target, and close an intent, in one transaction.

        ``changed`` says whether any of it is new there.
        """
        with self.fence.transaction() as db:
            if closing:
                db.execute(intents.delete().where(intents.c.id == closing.id))
            self.upsert(db, completions, map(columns, written))
            if changed:
                count = connections.c.export_changes + 1
                db.execute(self.fence.update().values(export_changes=count))

    def reopen(self, task_ids: Sequence[int]) -> None:
        """Record that the files of some tasks hold something else than was written."""
        with self.fence.transaction() as db:
            update_files(db, self.id, task_ids, digest="")

    def leave(self, task_ids: Sequence[int]) -> None:
        """Record that the files of some tasks stay as they are, although the tasks are gone."""
        with self.fence.transaction() as db:
            update_files(db, self.id, task_ids, digest=LEFT_ALONE, annotations=0)
            if task_ids:
                count = connections.c.export_changes + 1
                db.execute(self.fence.update().values(export_changes=count))

    def reopen_all(self, adopted: Iterable[Exported]) -> None:
        """Record that no file is surely as it was written; add files that were not known."""
        c = completions.c
        own = completions.update().where(c.connection == self.id, c.digest != LEFT_ALONE)
        with self.fence.transaction() as db:
            self.upsert(db, completions, map(columns, adopted), merge=None)
            db.execute(own.values(updated_at="", digest="", version=""))
            db.execute(self.fence.update().values(polled_to=""))

    def record_polled(
        self, target: Target, polled: RecentChanges, annotated: int, annotations: int
    ) -> None:
        """Record a complete export: its Label Studio time, and what it counted.

        If another target was saved during the export, the next export reads everything again.
        """
        values = {
            "polled_to": polled.since,
            "polled_count": polled.count,
            "polled_newest": polled.newest,
            "annotated": annotated,
            "annotations": annotations,
        }
        with self.fence.transaction() as db:
            row = db.execute(last_revision(self.id)).one()
            in_force = parse_settings(self.fence.connection, row.number, row.document)
            if isinstance(in_force, StoredSettingsError) or in_force.target != target:
                values["polled_to"] = ""
            db.execute(self.fence.update().values(values))

    def forget(self, task_ids: Sequence[int]) -> None:
        """Forget what was written for some tasks, so that the next export writes them again."""
        c = completions.c
        with self.fence.transaction() as db:
            for batch in batches(task_ids, PAGE):
                own = c.task_id.in_(batch)
                db.execute(completions.delete().where(c.connection == self.id, own))
            db.execute(self.fence.update().values(polled_to=""))

    def record_snapshot(self, changes: int, uri: str) -> None:
        """Record that a snapshot holds every export up to count ``changes``."""
        now = self.database.now()
        values = {"snapshot_changes": changes, "snapshot_uri": uri, "snapshot_at": now}
        with self.fence.transaction() as db:
            db.execute(self.fence.update().values(values))


def update_files(
    db: sa.Connection, connection_id: int, task_ids: Sequence[int], **values: Any
) -> None:
    """Record that the files of some tasks are not as they were written."""
    c = completions.c
    for batch in batches(task_ids, PAGE):
        some = c.task_id.in_(batch)
        own = completions.update().where(c.connection == connection_id, some)
        db.execute(own.values(updated_at="", **values))
