"""How the last runs of a connection ended, and when a failing one is tried again."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.looks import forget_looks
from ls_pipeline.resources.ledger.records import Health
from ls_pipeline.resources.ledger.section import Records, Writer, columns
from ls_pipeline.resources.ledger.tables import health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.ledger.records import FailedLook

RETRY_AT_FIRST = 30.0
RETRY_AT_MOST = 3600.0
"""Seconds that a failing connection waits. Each further failure in a row doubles them."""

RETRY_UNDECIDED = 86_400.0
"""Seconds that a connection waits if a person has to decide what is right.

It is tried again once a day, because the reason may be gone by then: a bucket that was empty for an
hour, or a wrong address that was corrected.
"""


def retry_delay(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row."""
    return float(min(RETRY_AT_FIRST * 2 ** min(max(failures - 1, 0), 10), RETRY_AT_MOST))


def is_waiting(health: Health, now: float) -> bool:
    """Return whether the next run is not due yet.

    If the ledger's clock was set back, the time of a retry says nothing any more.
    """
    at_most = RETRY_UNDECIDED if health.needs_decision else RETRY_AT_MOST
    return 0 < health.retry_at - now <= at_most


def at_time(moment: float, now: float) -> str:
    """Return a time for people, as in ``at 14:03:05 UTC``; with the date if it is not today."""
    then, today = (datetime.fromtimestamp(time, timezone.utc) for time in (moment, now))
    date = "" if then.date() == today.date() else f"{then:%Y-%m-%d} "
    return f"at {date}{then:%H:%M:%S} UTC"


def failed_looks(looks: Mapping[str, FailedLook], now: float) -> dict[str, str]:
    """Return why sensors can't see whether a connection needs a run, for people, by work."""
    return {
        work: f"{look.failure} First seen {at_time(look.since, now)}."
        for work, look in looks.items()
    }


def health_of(row: sa.Row[Any]) -> Health:
    """Return the health in a row of the table."""
    return Health(*(getattr(row, name) for name in Health.__dataclass_fields__))


class HealthRecords(Records):
    """The health of each work (`WORKS`)."""

    def of(self, work: str) -> Health:
        """Return how the last runs of some work ended."""
        c = health.c
        query = sa.select(health).where(c.connection == self.id, c.work == work)
        with self.database.engine.connect() as db:
            row = db.execute(query).first()
        return health_of(row) if row else Health()


class HealthWriter(HealthRecords, Writer):
    """Records how a run ended."""

    def record_failure(self, work: str, failure: str, *, needs_decision: bool = False) -> Health:
        """Record that a run failed, and when the next one is due."""
        before = self.of(work)
        failures = before.failures + 1
        delay = RETRY_UNDECIDED if needs_decision else retry_delay(failures)
        now = self.database.now()
        since = before.since if before.failures else now
        failed = Health(failures, now + delay, failure, before.passed_at, needs_decision, since)
        with self.fence.transaction() as db:
            self.upsert(db, health, [{"work": work, **columns(failed)}])
        return failed

    def record_success(self, work: str) -> None:
        """Record that a run ended well. It started, and saw what sensors could not."""
        passed = Health(passed_at=self.database.now())
        with self.fence.transaction() as db:
            self.upsert(db, health, [{"work": work, **columns(passed)}])
            forget_looks(db, self.id, work)

    def forget_undecided(self) -> None:
        """Record that a person has decided: the next runs find out whether that is right."""
        own = sa.and_(health.c.connection == self.id, health.c.needs_decision)
        healthy = {name: value for name, value in columns(Health()).items() if name != "passed_at"}
        with self.fence.transaction() as db:
            db.execute(health.update().where(own).values(healthy))
