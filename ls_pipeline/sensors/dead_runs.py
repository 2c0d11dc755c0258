"""Reports runs that died to Dagster, which counts them as running otherwise, and starts no others.

Dagster's own launcher does not notice the death of a run's process. A queue that is full of dead
runs would start none, so this can't wait for a connection's next run.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.assets.partitions import PARTITION_TAG
from ls_pipeline.assets.run import PATIENCE, works_of
from ls_pipeline.resources.ledger.lease import run_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ls_pipeline.resources.ledger.status import ConnectionStatus

SILENCE = timedelta(seconds=PATIENCE * 5)
"""How long a run without a lease may log nothing; it waits for the lease for `PATIENCE`."""

RUNS_AT_ONCE = 100
"""Runs that one tick looks at."""


def report_dead_runs(instance: dg.DagsterInstance, statuses: Iterable[ConnectionStatus]) -> None:
    """Report runs as failed that hold no connection and have logged nothing for long."""
    then = datetime.now(timezone.utc) - SILENCE
    silent = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], updated_before=then)
    runs = instance.get_runs(silent, limit=RUNS_AT_ONCE)
    if not runs:
        return
    names, alive = set(), set()
    for status in statuses:
        names.add(status.name)
        alive.add(run_of(status.held_by))
    for run in runs:
        is_ours = run.tags.get(PARTITION_TAG) in names and works_of(run)
        if is_ours and run.run_id not in alive and _last_log(instance, run) < then.timestamp():
            instance.report_run_failed(
                run,
                "It holds no connection and has logged nothing for "
                f"{SILENCE.seconds // 60} minutes: its process died.",
            )


def _last_log(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return records[0].timestamp if records else 0.0
