"""Finds runs that Dagster does not start, while no other run of ours goes on either."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.assets.partitions import PARTITION_TAG

if TYPE_CHECKING:
    from collections.abc import Collection

    from ls_pipeline.assets.pipeline import Pipeline

PATIENCE = timedelta(minutes=10)
"""How long a run may wait while nothing else happens."""

RUNS_AT_ONCE = 1000
"""Runs that are looked at."""

_WAITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_GOING_ON = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def find_stalled_runs(
    instance: dg.DagsterInstance, connections: Collection[str], pipeline: Pipeline
) -> dict[str, str]:
    """Return a sentence for each connection whose run waits in a queue that is stuck.

    A queue is not stuck if a run of ours goes on, or began or ended a while ago. Report dead runs
    before.
    """
    then = datetime.now(timezone.utc) - PATIENCE
    waiting: dict[str, str] = {}
    filters = dg.RunsFilter(statuses=_WAITING, created_before=then)
    for run in instance.get_runs(filters, limit=RUNS_AT_ONCE):  # the newest first
        if _is_ours(run, pipeline) and run.tags[PARTITION_TAG] in connections:
            waiting[run.tags[PARTITION_TAG]] = run.run_id
    if not waiting or _moves(instance, then, pipeline):
        return {}
    return {
        name: f"Dagster does not start run {run_id}, nor any other. See Runs in Dagster for what "
        "fills its queue, and Deployment for whether its daemons run."
        for name, run_id in waiting.items()
    }


def _moves(instance: dg.DagsterInstance, then: datetime, pipeline: Pipeline) -> bool:
    """Return whether a run of ours goes on, or one began or ended since some time."""
    going_on = dg.RunsFilter(statuses=_GOING_ON)
    changed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, *_ENDED], updated_after=then)
    return any(
        _is_ours(run, pipeline)
        for filters in (going_on, changed)
        for run in instance.get_runs(filters, limit=RUNS_AT_ONCE)
    )


def _is_ours(run: dg.DagsterRun, pipeline: Pipeline) -> bool:
    return PARTITION_TAG in run.tags and bool(pipeline.works_of(run))
