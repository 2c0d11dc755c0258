"""The status of all connections, read at one moment with as many queries as for one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.connection import ConnectionLedger
from ls_pipeline.resources.ledger.health import health_of
from ls_pipeline.resources.ledger.lease import living_holder
from ls_pipeline.resources.ledger.records import FailedLook, Health, SnapshotState, StoredSettings
from ls_pipeline.resources.ledger.settings import parse_settings
from ls_pipeline.resources.ledger.tables import connections, health, looks, projects, revisions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ls_pipeline.domain.errors import StoredSettingsError
    from ls_pipeline.resources.ledger.database import Database
    from ls_pipeline.settings.model import Connection


@dataclass(frozen=True, slots=True)
class ConnectionStatus(StoredSettings):
    """The status of one connection: what its ledger would answer, question by question."""

    ledger: ConnectionLedger
    settings: Connection | StoredSettingsError
    """Or why this version refuses them."""
    revision: int
    made_at: float
    """When its first settings were saved, in seconds since 1970."""
    project_ids: Sequence[int]
    """Of its Label Studio projects, the newest last; empty before the first run."""
    annotations: int
    """In its projects, at the last export."""
    polled_to: str
    snapshot: SnapshotState
    held_by: str
    fence: int
    """Grows with each run that holds the connection."""
    healths: Mapping[str, Health]
    failed_looks: Mapping[str, FailedLook]
    """Why sensors can't see whether it needs a run, by work."""
    read_at: float
    """The ledger's time when this was read."""

    @property
    def name(self) -> str:
        return self.ledger.name

    def health(self, work: str) -> Health:
        """Return how the last runs of some work (one of `WORKS`) ended."""
        return self.healths.get(work, Health())


def statuses(database: Database) -> list[ConnectionStatus]:
    """Return the status of every connection in use, by name."""
    span = (
        sa.select(
            revisions.c.connection,
            sa.func.max(revisions.c.number).label("number"),
            sa.func.min(revisions.c.saved_at).label("made_at"),
        )
        .group_by(revisions.c.connection)
        .subquery()
    )
    in_use = (
        sa.select(
            connections,
            revisions.c.number,
            revisions.c.document,
            span.c.made_at,
            database.now_expression().label("read_at"),
        )
        .select_from(connections)
        .join(span, span.c.connection == connections.c.id)
        .join(
            revisions,
            sa.and_(
                revisions.c.connection == span.c.connection,
                revisions.c.number == span.c.number,
            ),
        )
        .where(~connections.c.removed)
    )
    ids: defaultdict[int, list[int]] = defaultdict(list)
    healths: defaultdict[int, dict[str, Health]] = defaultdict(dict)
    failed: defaultdict[int, dict[str, FailedLook]] = defaultdict(dict)
    with database.engine.connect() as db:
        rows = db.execute(in_use).all()
        for row in db.execute(sa.select(health)):
            healths[row.connection][row.work] = health_of(row)
        numbered = sa.select(projects).order_by(projects.c.connection, projects.c.number)
        for row in db.execute(numbered):
            ids[row.connection].append(row.project_id)
        for row in db.execute(sa.select(looks)):
            failed[row.connection][row.work] = FailedLook(row.failure, row.since)
    found = [_status(database, row, ids[row.id], healths[row.id], failed[row.id]) for row in rows]
    return sorted(found, key=lambda status: status.name)


def _status(
    database: Database,
    row: sa.Row[Any],
    ids: Sequence[int],
    healths: Mapping[str, Health],
    failed_looks: Mapping[str, FailedLook],
) -> ConnectionStatus:
    return ConnectionStatus(
        ledger=ConnectionLedger(database, row.id, row.name),
        settings=parse_settings(row.name, row.number, row.document),
        revision=row.number,
        made_at=row.made_at,
        project_ids=tuple(ids),
        annotations=row.annotations,
        polled_to=row.polled_to,
        snapshot=SnapshotState(
            row.export_changes, row.snapshot_changes, row.snapshot_at, row.snapshot_uri
        ),
        held_by=living_holder(row.holder, row.leased_until, row.read_at),
        fence=row.fence,
        healths=healths,
        failed_looks=failed_looks,
        read_at=row.read_at,
    )
