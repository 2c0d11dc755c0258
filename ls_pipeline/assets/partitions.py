"""What the assets are divided by."""

from datetime import datetime, timedelta, timezone

import dagster as dg

CONNECTIONS = dg.DynamicPartitionsDefinition(name="connections")
"""A connection is a partition of every asset."""

PARTITION_TAG = "dagster/partition"
"""Of every run: the connection it works on."""

_ABOUT_TO_WORK = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_TO_TAKE_THE_LEASE = timedelta(minutes=1)
"""What a run may take from its start until it holds its connection."""


def pending_connections(instance: dg.DagsterInstance) -> set[str]:
    """Give the connections that a run will soon hold, whoever asked for it.

    A run that started long ago either holds the lease or was killed: after a crash of the
    machine Dagster goes on calling it started.
    """
    lately = datetime.now(timezone.utc) - _TO_TAKE_THE_LEASE
    started = [dg.DagsterRunStatus.STARTED]
    runs = [
        *instance.get_runs(dg.RunsFilter(statuses=_ABOUT_TO_WORK)),
        *instance.get_runs(dg.RunsFilter(statuses=started, updated_after=lately)),
    ]
    return {run.tags[PARTITION_TAG] for run in runs if PARTITION_TAG in run.tags}
