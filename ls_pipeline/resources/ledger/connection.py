"""One connection's part of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.resources.ledger.exports import Exports
from ls_pipeline.resources.ledger.imports import Attempts
from ls_pipeline.resources.ledger.lease import plain
from ls_pipeline.resources.ledger.records import Health, Revision
from ls_pipeline.resources.ledger.tables import (
    connections,
    health,
    last_revision,
    projects,
    revisions,
)
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.ledger.lease import Lease

RETRY_AT_FIRST = 30.0
RETRY_AT_MOST = 3600.0
"""Seconds a failing connection waits; doubled with every failure in a row."""


def retry_delay(failures: int) -> float:
    """Give the seconds to wait after so many failures in a row."""
    return float(min(RETRY_AT_FIRST * 2 ** min(max(failures - 1, 0), 10), RETRY_AT_MOST))


@dataclass(frozen=True)
class Account(Attempts, Exports):
    """One connection's part of the ledger: its settings and health, and all that was done."""

    def revision(self) -> Revision:
        """Give the settings in force."""
        with self.ledger.engine.connect() as db:
            row = db.execute(last_revision(self.id)).one()
        return Revision(row.number, Connection(**row.document), row.saved_at, row.saved_by)

    def history(self) -> list[Revision]:
        """List all revisions of the settings, the newest first."""
        mine = sa.select(revisions).where(revisions.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            rows = db.execute(mine.order_by(revisions.c.number.desc())).all()
        return [
            Revision(row.number, Connection(**row.document), row.saved_at, row.saved_by)
            for row in rows
        ]

    def health(self, work: str) -> Health:
        """Tell how the last passes of some work (one of `WORKS`) went."""
        c = health.c
        query = sa.select(c.failures, c.retry_at, c.failure, c.passed_at)
        with self.ledger.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.work == work)).first()
        return Health(*row) if row else Health()

    def failed(self, work: str, failure: str) -> Health:
        """Record that a pass failed, and when the next one is due."""
        before = self.health(work)
        failures = before.failures + 1
        again = self.ledger.clock() + retry_delay(failures)
        return self._record_health(work, Health(failures, again, failure, before.passed_at))

    def recovered(self, work: str) -> None:
        """Record that a pass went well."""
        self._record_health(work, Health(passed_at=self.ledger.clock()))

    def _record_health(self, work: str, new: Health) -> Health:
        with self.ledger.engine.begin() as db:
            self._upsert(db, health, [{"work": work, **plain(new)}])
        return new

    def projects(self) -> dict[int, int]:
        """Give the ids of the connection's Label Studio projects by number, in that order.

        The first is 1. A further one has the number of its title; new tasks go to the last.
        """
        c = projects.c
        query = sa.select(c.number, c.project_id).where(c.connection == self.id)
        with self.ledger.engine.connect() as db:
            return {row.number: row.project_id for row in db.execute(query.order_by(c.number))}

    def set_projects(self, lease: Lease, ids: Mapping[int, int]) -> None:
        """Remember projects by number, all at once."""
        with self._write(lease) as db:
            rows = ({"number": number, "project_id": one} for number, one in ids.items())
            self._upsert(db, projects, rows)

    def seen(self) -> dict[int, int]:
        """Give each project's highest task id up to which all of the connection's are known."""
        c = projects.c
        query = sa.select(c.project_id, c.seen).where(c.connection == self.id)
        with self.ledger.engine.connect() as db:
            return {row.project_id: row.seen for row in db.execute(query.order_by(c.number))}

    def set_seen(self, lease: Lease, project_id: int, task_id: int) -> None:
        """Record that up to this task id all of the connection's are known."""
        mine = sa.and_(projects.c.connection == self.id, projects.c.project_id == project_id)
        with self._write(lease) as db:
            db.execute(projects.update().where(mine).values(seen=task_id))

    def mirror_state(self, side: str) -> str:
        """Tell what the local copy of a side was finished with; empty while it is not."""
        column = connections.c[f"{side}_copy"]
        with self.ledger.engine.connect() as db:
            return db.scalar(sa.select(column).where(connections.c.id == self.id)) or ""

    def set_mirror_state(self, lease: Lease, side: str, what: str) -> None:
        """Record what the local copy of a side is finished with, or with nothing that it is not."""
        with self._write(lease) as db:
            db.execute(self._mine(lease).values({f"{side}_copy": what}))
