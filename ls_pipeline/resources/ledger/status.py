"""The status of all connections, read at one moment with as many queries as for one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.connection import ConnectionLedger
from ls_pipeline.resources.ledger.health import failed_looks, health_of
from ls_pipeline.resources.ledger.lease import living_holder
from ls_pipeline.resources.ledger.records import (
    SENSORS,
    WORKS,
    FailedLook,
    Health,
    SeenChange,
    SnapshotState,
    StoredSettings,
)
from ls_pipeline.resources.ledger.settings import parse_settings
from ls_pipeline.resources.ledger.tables import (
    changes,
    connections,
    health,
    looks,
    projects,
    revisions,
    ticks,
)
from ls_pipeline.resources.ledger.ticks import late_look, late_sensors
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ls_pipeline.domain.errors import StoredSettingsError
    from ls_pipeline.resources.ledger.database import Database


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
    """Why sensors can't see whether it needs a run, or why it gets none, by `LOOKS`."""
    seen_changes: Mapping[str, SeenChange]
    """What looks found and no run has dealt with yet, by work."""
    read_at: float
    """The ledger's time when this was read."""

    @property
    def name(self) -> str:
        return self.ledger.name

    def health(self, work: str) -> Health:
        """Return how the last runs of some work (one of `WORKS`) ended."""
        return self.healths.get(work, Health())


def failing_since(status: ConnectionStatus) -> dict[str, float]:
    """Return when the failures began, by kind of work; refused settings have no such time."""
    return {
        **{work: look.since for work, look in status.failed_looks.items()},
        **{work: health.since for work, health in status.healths.items() if health.failures},
    }


def failures_of(status: ConnectionStatus) -> dict[str, str]:
    """Return why a connection fails, by kind of work, or ``settings``."""
    failures = failed_looks(status.failed_looks, status.read_at)
    failing = ((work, status.health(work)) for work in WORKS)
    failures |= {work: health.failure for work, health in failing if health.failures}
    return {**failures, "settings": status.refusal} if status.refusal else failures


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
    found: defaultdict[int, _Records] = defaultdict(_Records)
    with database.engine.connect() as db:
        rows = db.execute(in_use).all()
        for row in db.execute(sa.select(health)):
            found[row.connection].healths[row.work] = health_of(row)
        numbered = sa.select(projects).order_by(projects.c.connection, projects.c.number)
        for row in db.execute(numbered):
            found[row.connection].project_ids.append(row.project_id)
        for row in db.execute(sa.select(looks)):
            found[row.connection].looks[row.work] = FailedLook(row.failure, row.since)
        for row in db.execute(sa.select(changes)):
            found[row.connection].changes[row.work] = SeenChange(row.objects, row.since)
        last_ticks = db.execute(sa.select(ticks)).all()
    found_statuses = (_status(database, row, found[row.id], last_ticks) for row in rows)
    return sorted(found_statuses, key=lambda status: status.name)


@dataclass(frozen=True, slots=True)
class _Records:
    """What other tables have of one connection."""

    project_ids: list[int] = field(default_factory=list)
    healths: dict[str, Health] = field(default_factory=dict)
    looks: dict[str, FailedLook] = field(default_factory=dict)
    changes: dict[str, SeenChange] = field(default_factory=dict)


def _status(
    database: Database, row: sa.Row[Any], records: _Records, last_ticks: Sequence[sa.Row[Any]]
) -> ConnectionStatus:
    settings = parse_settings(row.name, row.number, row.document)
    late = late_sensors(last_ticks, row.read_at)
    if look := late_look(settings if isinstance(settings, Connection) else None, late):
        records.looks[SENSORS] = look
    return ConnectionStatus(
        ledger=ConnectionLedger(database, row.id, row.name),
        settings=settings,
        revision=row.number,
        made_at=row.made_at,
        project_ids=tuple(records.project_ids),
        annotations=row.annotations,
        polled_to=row.polled_to,
        snapshot=SnapshotState(
            row.export_changes, row.snapshot_changes, row.snapshot_at, row.snapshot_uri
        ),
        held_by=living_holder(row.holder, row.leased_until, row.read_at),
        fence=row.fence,
        healths=records.healths,
        failed_looks=records.looks,
        seen_changes=records.changes,
        read_at=row.read_at,
    )
