"""How all connections stand, read at one moment, in as many queries as for one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.connection import Account
from ls_pipeline.resources.ledger.lease_holder import is_dead
from ls_pipeline.resources.ledger.records import Health, Training
from ls_pipeline.resources.ledger.tables import connections, health, projects, revisions
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ls_pipeline.resources.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Standing:
    """How one connection stands: what its `Account` would tell, asked for one by one."""

    account: Account
    connection: Connection
    revision: int
    made_at: float
    """When its first settings were saved, in seconds since 1970."""
    project_ids: Sequence[int]
    """Of its Label Studio projects, the newest last; empty before the first pass."""
    annotations: int
    """In its project, when they were last exported."""
    polled_to: str
    training: Training
    held_by: str
    fence: int
    """Greater with each run that has held the connection."""
    healths: Mapping[str, Health]

    @property
    def name(self) -> str:
        return self.account.name

    def health(self, work: str) -> Health:
        """Tell how the last passes of some work (one of `WORKS`) went."""
        return self.healths.get(work, Health())


def standings(ledger: Ledger) -> list[Standing]:
    """Tell how every connection in use stands, in the order of their names."""
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
        sa.select(connections, revisions.c.number, revisions.c.document, span.c.made_at)
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
    with ledger.engine.connect() as db:
        rows, went = db.execute(in_use).all(), db.execute(sa.select(health)).all()
        numbered = sa.select(projects).order_by(projects.c.connection, projects.c.number)
        ids: defaultdict[int, list[int]] = defaultdict(list)
        for one in db.execute(numbered):
            ids[one.connection].append(one.project_id)
    healths: defaultdict[int, dict[str, Health]] = defaultdict(dict)
    for one in went:
        state = Health(one.failures, one.retry_at, one.failure, one.passed_at)
        healths[one.connection][one.work] = state
    found = [_standing(ledger, row, ids[row.id], healths[row.id]) for row in rows]
    return sorted(found, key=lambda one: one.name)


def _standing(
    ledger: Ledger, row: sa.Row[Any], ids: Sequence[int], healths: Mapping[str, Health]
) -> Standing:
    free = row.leased_until <= ledger.clock() or is_dead(row.holder)
    return Standing(
        account=Account(ledger, row.id, row.name),
        connection=Connection(**row.document),
        revision=row.number,
        made_at=row.made_at,
        project_ids=tuple(ids),
        annotations=row.annotations,
        polled_to=row.polled_to,
        training=Training(row.exports_moved, row.snapshot_of, row.snapshot_at, row.snapshot_uri),
        held_by="" if free else row.holder,
        fence=row.fence,
        healths=healths,
    )
