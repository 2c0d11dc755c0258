"""One connection's part of the ledger: read by everyone, written by the run that holds it."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.resources.ledger.binding import BindingRecords, BindingWriter, ledger_id
from ls_pipeline.resources.ledger.exports import ExportRecords, ExportWriter
from ls_pipeline.resources.ledger.health import HealthRecords, HealthWriter
from ls_pipeline.resources.ledger.intents import IntentRecords, IntentWriter
from ls_pipeline.resources.ledger.lease import LONGEST_HOLD, leased, living_holder
from ls_pipeline.resources.ledger.objects import ObjectRecords, ObjectWriter
from ls_pipeline.resources.ledger.projects import ProjectRecords, ProjectWriter
from ls_pipeline.resources.ledger.settings import SettingsRecords
from ls_pipeline.resources.ledger.sidecars import SidecarRecords, SidecarWriter
from ls_pipeline.resources.ledger.tables import connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.resources.ledger.database import Database
    from ls_pipeline.resources.ledger.lease import Fence


class ConnectionLedger:
    """One connection's records, by kind. Reads only."""

    def __init__(self, database: Database, connection_id: int, name: str) -> None:
        self.database, self.id, self.name = database, connection_id, name
        self.settings = SettingsRecords(database, connection_id, name)
        self.health = HealthRecords(database, connection_id)
        self.projects = ProjectRecords(database, connection_id)
        self.objects = ObjectRecords(database, connection_id)
        self.sidecars = SidecarRecords(database, connection_id)
        self.intents = IntentRecords(database, connection_id)
        self.binding = BindingRecords(database, connection_id)
        self.exports = ExportRecords(database, connection_id)

    def now(self) -> float:
        """Return the ledger's time in seconds since 1970."""
        return self.database.now()

    @cached_property
    def ledger_id(self) -> str:
        """The id of the whole ledger, which marks name."""
        return ledger_id(self.database)

    @contextmanager
    def acquire(
        self, patience: float = 0.0, run_id: str = "", seconds: float = LONGEST_HOLD
    ) -> Iterator[HeldConnection]:
        """Hold the connection while the block runs, on behalf of Dagster's run, if any.

        ``renew`` raises ``RunTooLongError`` after ``seconds``. Raises ``LeaseError`` if another run
        still holds the connection after ``patience`` seconds.
        """
        with leased(self.database, self.id, self.name, patience, run_id, seconds) as fence:
            yield HeldConnection(fence)

    def held_by(self) -> str:
        """Return the living holder of the connection's lease; empty if it is free."""
        c = connections.c
        query = sa.select(c.holder, c.leased_until).where(c.id == self.id)
        with self.database.engine.connect() as db:
            row = db.execute(query).one()
        return living_holder(row.holder, row.leased_until, self.now())

    def mirror_state(self, side: str) -> str:
        """Return what the local mirror of a side was finished with; empty if it is unfinished."""
        column = connections.c[f"{side}_mirror"]
        with self.database.engine.connect() as db:
            return db.scalar(sa.select(column).where(connections.c.id == self.id)) or ""


class HeldConnection(ConnectionLedger):
    """One connection's records, in the hands of the run that holds its lease.

    Only it can write them. Each write renews the lease in its own transaction, and raises
    ``LeaseLostError`` if a newer run has taken the connection: then nothing is written.
    """

    health: HealthWriter
    projects: ProjectWriter
    objects: ObjectWriter
    sidecars: SidecarWriter
    intents: IntentWriter
    binding: BindingWriter
    exports: ExportWriter

    def __init__(self, fence: Fence) -> None:
        database, connection_id = fence.database, fence.id
        super().__init__(database, connection_id, fence.connection)
        self.fence = fence
        self.health = HealthWriter(database, connection_id, fence)
        self.projects = ProjectWriter(database, connection_id, fence)
        self.objects = ObjectWriter(database, connection_id, fence)
        self.sidecars = SidecarWriter(database, connection_id, fence)
        self.intents = IntentWriter(database, connection_id, fence)
        self.binding = BindingWriter(database, connection_id, fence)
        self.exports = ExportWriter(database, connection_id, fence)

    def renew(self) -> None:
        """Renew the lease, as before each effect outside.

        Raises ``LeaseLostError``, and ``RunTooLongError``.
        """
        self.fence.renew()

    def check_time(self) -> None:
        """Raise ``RunTooLongError`` if the run takes too long, as long loops ask."""
        self.fence.check_time()

    def set_mirror_state(self, side: str, what: str) -> None:
        """Record what the local mirror of a side is finished with; empty: it is unfinished."""
        with self.fence.transaction() as db:
            db.execute(self.fence.update().values({f"{side}_mirror": what}))
