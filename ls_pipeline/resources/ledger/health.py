"""How the last runs of a connection ended, and when a failing one is tried again."""

from __future__ import annotations

import sqlalchemy as sa

from ls_pipeline.resources.ledger.records import Health
from ls_pipeline.resources.ledger.section import Records, Writer, columns
from ls_pipeline.resources.ledger.tables import health

RETRY_AT_FIRST = 30.0
RETRY_AT_MOST = 3600.0
"""Seconds that a failing connection waits. Each further failure in a row doubles them."""


def retry_delay(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row."""
    return float(min(RETRY_AT_FIRST * 2 ** min(max(failures - 1, 0), 10), RETRY_AT_MOST))


class HealthRecords(Records):
    """The health of each work (`WORKS`)."""

    def of(self, work: str) -> Health:
        """Return how the last runs of some work ended."""
        c = health.c
        query = sa.select(c.failures, c.retry_at, c.failure, c.passed_at)
        with self.database.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.work == work)).first()
        return Health(*row) if row else Health()


class HealthWriter(HealthRecords, Writer):
    """Records how a run ended."""

    def record_failure(self, work: str, failure: str) -> Health:
        """Record that a run failed, and when the next one is due."""
        before = self.of(work)
        failures = before.failures + 1
        again = self.database.now() + retry_delay(failures)
        return self._record(work, Health(failures, again, failure, before.passed_at))

    def record_success(self, work: str) -> None:
        """Record that a run ended well."""
        self._record(work, Health(passed_at=self.database.now()))

    def _record(self, work: str, new: Health) -> Health:
        with self.fence.transaction() as db:
            self.upsert(db, health, [{"work": work, **columns(new)}])
        return new
