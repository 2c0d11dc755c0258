"""What the object sensors of both clouds do."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.assets.partitions import pending_connections
from ls_pipeline.engine.detect import scan_source
from ls_pipeline.sensors.probes import Deadline, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import Tick, enabled_statuses, rotate, skip_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.model import Connection, Source


@dataclass
class _Place:
    """Where a tick begins: with whose turn, and with which key where one came that far."""

    first: str = ""
    after: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> _Place:
        """Take a cursor apart; one of an earlier version is none."""
        first, after = json.loads(cursor) if cursor else ("", {})
        return cls(first, after) if isinstance(after, dict) else cls()

    @property
    def cursor(self) -> str:
        return json.dumps([self.first, self.after])


def objects_tick(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    cloud: str,
    open_bucket: Callable[[Source], Bucket],
    looks: ProbePool | None = None,
) -> dg.SensorResult:
    """Compare the buckets of one cloud with the ledger; ask for a run where they differ.

    Reads only. A tick that runs out of time is continued by the next: the cursor says at
    which connection and, where a look did not come to its end, after which key.
    """
    standings = enabled_statuses(ledger, lambda one: _source(one, cloud) is not None)
    coming = pending_connections(context.instance) if standings else set()
    place, tick = _Place.from_cursor(context.cursor), Tick()
    names: deque[str] = deque()
    for name in rotate(list(standings), place.first):
        if reason := skip_reason(standings[name], coming, "tasks"):
            tick.skip(name, reason)
        else:
            names.append(name)
    place.after = {name: key for name, key in place.after.items() if name in names}

    def look(name: str, turn: Deadline) -> ProbeResult:
        source = _source(standings[name].connection, cloud)
        after = place.after.get(name, "")
        return _look(standings[name].account, source, open_bucket, after, turn)

    for name, found in (looks or ProbePool()).run_round_robin(names, look, tick.deadline):
        place.after.pop(name, None)
        if found.reached:
            place.after[name] = found.reached
        else:
            tick.take(name, found)
    place.first = names[0] if names else ""
    return tick.result(context, standings, place.cursor, "nothing new.")


def _source(connection: Connection, cloud: str) -> Source | None:
    source = connection.source
    return source if source and source.cloud == cloud else None


def _look(
    account: Account,
    source: Source | None,
    open_bucket: Callable[[Source], Bucket],
    after: str,
    turn: Deadline,
) -> ProbeResult:
    """Look at one connection, from a key on."""
    if source is None:
        return ProbeResult()
    scan = scan_source(account, source, open_bucket(source), after, lambda: turn.over)
    return ProbeResult(wanted=scan.changed, reached=scan.reached)
