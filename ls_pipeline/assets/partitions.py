"""The partitions of the assets: one for each connection."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from ls_pipeline.assets.pipeline import Pipeline

PARTITION_TAG = "dagster/partition"
"""The tag of a run that names its connection."""

_NOT_STARTED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_ACQUIRE_TIME = timedelta(minutes=1)
"""How long after its start a run may take to acquire the lease of its connection."""


def pending_connections(instance: dg.DagsterInstance, pipeline: Pipeline) -> set[str]:
    """Return the connections that a run of a pipeline will soon hold.

    Does not count a run that started long ago: it holds the lease, or it was killed and Dagster
    does not know.
    """
    recently = datetime.now(timezone.utc) - _ACQUIRE_TIME
    started = [dg.DagsterRunStatus.STARTED]
    runs = [
        *instance.get_runs(dg.RunsFilter(statuses=_NOT_STARTED)),
        *instance.get_runs(dg.RunsFilter(statuses=started, updated_after=recently)),
    ]
    return {
        run.tags[PARTITION_TAG]
        for run in runs
        if PARTITION_TAG in run.tags and pipeline.works_of(run)
    }
