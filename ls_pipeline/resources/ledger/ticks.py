"""When a tick of each sensor last succeeded: a stuck sensor can't report itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.records import FailedLook
from ls_pipeline.resources.ledger.tables import ticks
from ls_pipeline.resources.ledger.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ls_pipeline.resources.ledger.database import Database
    from ls_pipeline.settings.model import Connection

SENSOR_NAMES = frozenset({"s3_objects", "gcs_objects", "completions", "training_data"})
"""The sensors that look at all connections; `notifications` only makes them faster."""

RECORD_SECONDS = 60.0
"""The pause between two records of a sensor that works: a tick writes only if it has to."""

LATE_SECONDS = 300.0
LATE_INTERVALS = 3
"""After this time, and this number of intervals, a sensor without a tick is stuck."""


class Ticks:
    """The sensors that are expected to work."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def record(self, sensor: str, interval: float) -> bool:
        """Record that a tick succeeded, at most once a minute; return whether it was recorded."""
        now, due = self.database.now(), max(LATE_SECONDS, LATE_INTERVALS * interval)
        with self.database.engine.connect() as db:
            last = db.execute(sa.select(ticks).where(ticks.c.sensor == sensor)).first()
        if last and 0 <= now - last.ended_at < RECORD_SECONDS and last.due_seconds == due:
            return False
        with self.database.engine.begin() as db:
            upsert(db, ticks, [{"sensor": sensor, "ended_at": now, "due_seconds": due}])
        return True

    def forget(self, sensors: Collection[str]) -> None:
        """Expect no tick of these sensors: a person switched them off."""
        if sensors:
            with self.database.engine.begin() as db:
                db.execute(ticks.delete().where(ticks.c.sensor.in_(sensors)))


def late_sensors(last_ticks: Sequence[sa.Row[Any]], now: float) -> dict[str, float]:
    """Return the sensors whose next tick is late, and when their last one succeeded."""
    late = (row for row in last_ticks if now - row.ended_at > row.due_seconds)
    return {row.sensor: row.ended_at for row in late}


def late_look(connection: Connection | None, late: Mapping[str, float]) -> FailedLook | None:
    """Return why no sensor looks at a connection; None if each that serves it does."""
    own = [sensor for sensor in sensors_of(connection) if sensor in late] if connection else []
    if not own:
        return None
    failure = (
        f"No tick of the sensor {' or '.join(own)} succeeds. Look at the sensor's ticks in "
        "Dagster; without new ones, start Dagster's daemon."
    )
    return FailedLook(failure, min(map(late.__getitem__, own)))


def sensors_of(connection: Connection) -> list[str]:
    """Return the sensors that find out whether a connection needs a run."""
    source = [f"{connection.source.cloud}_objects"] if connection.source else []
    return [*source, *(["completions", "training_data"] if connection.target else [])]
