"""The lease on an account: who may write it, and how everything in it is written."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.errors import LeaseError, LeaseLostError, LedgerError
from ls_pipeline.resources.ledger.lease_holder import holder, is_dead
from ls_pipeline.resources.ledger.tables import connections
from ls_pipeline.resources.ledger.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.resources.ledger.ledger import Ledger

PAGE = 1000
"""Rows read at once."""

LEASE_SECONDS = 60.0
"""How long a lease outlives its holder's last write; a dead holder on this machine: 0."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one connection's account, while its fence is the newest."""

    account: Leased
    holder: str
    fence: int
    overtaken: str = ""
    """The holder before, if it never gave the lease back: it died, or sleeps."""


@dataclass(frozen=True)
class Leased:
    """What an `Account` stands on: a lease that one run holds, and the one way to write."""

    ledger: Ledger
    id: int
    name: str

    @contextmanager
    def lease(self, patience: float = 0.0, run_id: str = "") -> Iterator[Lease]:
        """Hold the connection for as long as the block runs, on behalf of Dagster's run, if any.

        Raises ``LeaseError`` when another run still holds it after ``patience`` seconds.
        """
        lease = self._take_within(patience, run_id)
        done = threading.Event()
        heart = threading.Thread(target=self._beat, args=(lease, done), daemon=True)
        heart.start()
        try:
            yield lease
        finally:
            done.set()
            heart.join()
            with suppress(LedgerError), self.ledger.engine.begin() as db:  # it also runs out
                db.execute(self._mine(lease).values(holder="", leased_until=0.0))

    def held_by(self) -> str:
        """Name the living holder of the connection's lease; empty when it is free."""
        c = connections.c
        query = sa.select(c.holder, c.leased_until).where(c.id == self.id)
        with self.ledger.engine.connect() as db:
            row = db.execute(query).one()
        free = row.leased_until <= self.ledger.clock() or is_dead(row.holder)
        return "" if free else str(row.holder)

    def _beat(self, lease: Lease, done: threading.Event) -> None:
        """Keep the lease while the process lives; a paused one loses it."""
        while not done.wait(LEASE_SECONDS / 4):
            try:
                self.renew(lease)
            except LeaseLostError:  # noqa: PERF203 - it waits anyway
                return  # the run finds out at its next write
            except LedgerError:
                continue  # a busy database; there is time for another try

    def _take_within(self, patience: float, run_id: str) -> Lease:
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._take(run_id)
            except LeaseError:  # noqa: PERF203 - it waits anyway
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)

    def _take(self, run_id: str) -> Lease:
        now, me = self.ledger.clock(), holder(run_id)
        with self.ledger.engine.begin() as db:
            row = db.execute(sa.select(connections).where(connections.c.id == self.id)).one()
            if row.leased_until > now and not is_dead(row.holder):
                raise LeaseError(self.name, row.holder)
            taken = db.execute(
                connections.update()
                .where(connections.c.id == self.id, connections.c.fence == row.fence)
                .values(holder=me, fence=row.fence + 1, leased_until=now + LEASE_SECONDS)
            )
            if taken.rowcount != 1:
                raise LeaseError(self.name, "a run that began at the same moment")
        return Lease(self, me, row.fence + 1, row.holder)

    def _mine(self, lease: Lease) -> sa.Update:
        return connections.update().where(
            connections.c.id == self.id, connections.c.fence == lease.fence
        )

    @contextmanager
    def _write(self, lease: Lease) -> Iterator[sa.Connection]:
        """Open a transaction that renews the lease, or fails when it was lost."""
        until = self.ledger.clock() + LEASE_SECONDS
        with self.ledger.engine.begin() as db:
            if db.execute(self._mine(lease).values(leased_until=until)).rowcount != 1:
                raise LeaseLostError(self.name)
            yield db

    def renew(self, lease: Lease) -> None:
        """Say that the run is alive. Raises ``LeaseLostError``."""
        with self._write(lease):
            pass

    def _upsert(
        self,
        db: sa.Connection,
        table: sa.Table,
        rows: Iterable[dict[str, Any]],
        *,
        replace: bool | sa.ColumnElement[bool] = True,
    ) -> None:
        """Write rows; of those that are there already, replace all, none, or some."""
        upsert(db, table, [{"connection": self.id, **row} for row in rows], replace=replace)


def plain(value: Any) -> dict[str, Any]:
    """Give a value of the ledger as columns."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
