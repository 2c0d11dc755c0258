"""Reports runs that died to Dagster, which counts them as running otherwise, and starts no others.

Dagster's own launcher does not notice the death of a run's process. A queue that is full of dead
runs starts none, so this can't wait for a connection's next run.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.assets.partitions import PARTITION_TAG
from ls_pipeline.assets.pipeline import STANDALONE

if TYPE_CHECKING:
    from collections.abc import Collection

    from ls_pipeline.assets.pipeline import Pipeline
    from ls_pipeline.resources.ledger.ledger import Ledger

SILENCE = timedelta(seconds=90)
"""How long a run that began none of its work may log nothing."""

RUNS_AT_ONCE = 100
"""Runs that are looked at."""


def report_dead_runs(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    connections: Collection[str],
    pipeline: Pipeline = STANDALONE,
) -> None:
    """Report runs of a pipeline as ended whose process died.

    Their heartbeats in the ledger say so; and for a run that died before its first one, its
    silence, if it is a run over one of some ``connections``.
    """
    ended = {
        dg.DagsterRunStatus.STARTED: instance.report_run_failed,
        dg.DagsterRunStatus.CANCELING: instance.report_run_canceled,
    }
    runs = instance.get_runs(dg.RunsFilter(statuses=[*ended]), limit=RUNS_AT_ONCE)
    if not runs:
        return
    dead = ledger.heartbeats.dead([run.run_id for run in runs])
    for run in runs:
        never_began = run.run_id not in dead
        is_ours = run.tags.get(PARTITION_TAG) in connections and pipeline.works_of(run)
        if dead.get(run.run_id) or (never_began and is_ours and _is_silent(instance, run)):
            ended[run.status](run, "It sends no sign of life: its process died.")
    ledger.heartbeats.forget([run_id for run_id, is_dead in dead.items() if is_dead])


def _is_silent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    then = datetime.now(timezone.utc) - SILENCE
    return not records or records[0].timestamp < then.timestamp()
