"""Signs of life of runs, from their first line to their last, also while they wait for a lease."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS, beating, holder_name, is_dead
from ls_pipeline.resources.ledger.tables import heartbeats
from ls_pipeline.resources.ledger.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ls_pipeline.resources.ledger.database import Database


class Heartbeats:
    """The last sign of life of each run that has not ended by itself."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @contextmanager
    def of(self, run_id: str, seconds: float) -> Iterator[None]:
        """Send signs of life while the block runs, for ``seconds`` at most."""
        self._beat(run_id)
        try:
            with beating(partial(self._beat, run_id), seconds):
                yield
        finally:
            with suppress(LedgerError):
                self.forget([run_id])

    def dead(self, run_ids: Collection[str]) -> dict[str, bool]:
        """Return whether each of some runs is certainly dead; without those that never began."""
        c, now = heartbeats.c, self.database.now()
        query = sa.select(heartbeats).where(c.run_id.in_(run_ids))
        with self.database.engine.connect() as db:
            rows = db.execute(query).all()
        return {
            row.run_id: is_dead(row.holder) or abs(now - row.seen_at) >= LEASE_SECONDS
            for row in rows
        }

    def forget(self, run_ids: Collection[str]) -> None:
        """Forget runs that have ended."""
        with self.database.engine.begin() as db:
            db.execute(heartbeats.delete().where(heartbeats.c.run_id.in_(run_ids)))

    def _beat(self, run_id: str) -> None:
        row = {"run_id": run_id, "holder": holder_name(run_id), "seen_at": self.database.now()}
        with self.database.engine.begin() as db:
            upsert(db, heartbeats, [row])
