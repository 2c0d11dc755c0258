"""Objects whose bytes the bucket does not deliver, though it delivers others.

A disk may have lost one object, and a request for it may fail or hang whenever it is sent. It goes
to quarantine and is tried again, less and less often. Only if many objects fail in a row it is the
bucket's fault, and the run fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.health import at_time, retry_delay
from ls_pipeline.resources.ledger.records import Quarantined

if TYPE_CHECKING:
    from ls_pipeline.domain.errors import BucketUnavailableError
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.ledger.connection import HeldConnection

UNREADABLE_AT_MOST = 20
"""Objects that can't be read, before it counts as the bucket's fault."""


class UnreadObjects:
    """The objects of one run that the bucket failed at, since it last delivered one."""

    def __init__(self, held: HeldConnection, reading: str, failures: dict[str, int]) -> None:
        self._held, self._reading = held, reading
        self._failures = failures
        """How often runs before this one failed at an object."""
        self._in_a_row: list[tuple[Quarantined, KnownObject]] = []

    def add(self, listed: StoredObject, error: BucketUnavailableError, *, has_tasks: bool) -> None:
        """Take an object that could not be read. Raises the error if there are too many."""
        failures, now = self._failures.get(listed.key, 0) + 1, self._held.now()
        retry_at = now + retry_delay(failures)
        reason = f"{error.message} It is tried again {at_time(retry_at, now)}."
        item = Quarantined(
            listed.key,
            None,
            listed.version,
            reason,
            self._reading,
            failures=failures,
            retry_at=retry_at,
        )
        state = State.LOADED if has_tasks else State.QUARANTINED
        self._in_a_row.append((item, KnownObject(listed.key, listed.version, listed.size, state)))
        if len(self._in_a_row) >= UNREADABLE_AT_MOST:
            raise error

    def take(self) -> list[tuple[Quarantined, KnownObject]]:
        """Return the objects for the quarantine: the bucket delivered another, or all are read."""
        taken, self._in_a_row = self._in_a_row, []
        return taken
