"""The ``notifications`` sensor: finds changes within seconds of a notification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from ls_pipeline.assets.checks import (
    CONNECTIONS_HEALTHY,
    failing_connections,
    health_check_fields,
)
from ls_pipeline.assets.pipeline import STANDALONE, WORK_OF_JOBS, Pipeline
from ls_pipeline.assets.systems import Systems
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.queue import Queue
from ls_pipeline.sensors.bucket_events import (
    Backlog,
    acknowledge,
    compare_keys,
    queue_of,
    read_queues,
    select_keys,
)
from ls_pipeline.sensors.probes import ProbePool
from ls_pipeline.sensors.tick import Candidates, State, Tick, digest
from ls_pipeline.sensors.webhook_events import compare_labels
from ls_pipeline.settings.model import Source

HEALTH_CHECK_SECONDS = 30.0
"""The pause between two checks for failing connections: a tick comes every few seconds."""


@dataclass(frozen=True)
class Services:
    """The outside systems that the sensor asks."""

    open_bucket: Callable[[Source], Bucket]
    open_queue: Callable[[Source], Queue]
    app: LabelingApp


@dataclass(frozen=True)
class ProbePools:
    """A pool for each kind of probe, so that none waits for another kind."""

    queues: ProbePool = field(default_factory=ProbePool)
    buckets: ProbePool = field(default_factory=ProbePool)
    labels: ProbePool = field(default_factory=ProbePool)


def notifications(pipeline: Pipeline, seconds: int, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Return the sensor that requests a run if a notification led to a change.

    ``jobs`` are ``load_tasks`` and ``export_completions``.
    """
    pools = ProbePools()

    @dg.sensor(
        name=pipeline.name("notifications"),
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=pipeline.sensor_status,
        required_resource_keys=pipeline.names("ledger", "s3", "gcs", "queues", "label_studio"),
        description="Compares the keys in buckets' notifications, and the labels that Label "
        "Studio's webhooks announce, with the ledger. Requests a run of each connection that "
        "differs.",
    )
    def notifications(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        systems = Systems(pipeline, context.resources)
        services = Services(systems.bucket_of, systems.queues.open, systems.label_studio)
        return notifications_tick(context, systems.ledger, services, pools, pipeline)

    return notifications


class _State(State):
    """Events that wait, and webhooks that are dealt with."""

    backlog: Backlog = Field(default_factory=Backlog)
    webhooks: dict[str, float] = Field(default_factory=dict)
    """By connection, the time of the last webhook that is dealt with."""
    failures: str = "?"
    """A digest of the failing connections, as the check last reported them."""
    checked_at: float = 0.0


def notifications_tick(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    services: Services,
    pools: ProbePools | None = None,
    pipeline: Pipeline = STANDALONE,
) -> dg.SensorResult:
    """Follow notifications; request a run of connections that differ from the ledger.

    A connection that needs both jobs gets ``load_tasks``, and the other job in a later tick.
    """
    pools, tick = pools or ProbePools(), Tick(pipeline, idle="No notification of a change.")
    state = _State.from_cursor(context.cursor)
    statuses = tick.enabled(ledger)
    if not any(map(queue_of, statuses.values())):
        tick.idle = "No connection has notifications."
    batches = read_queues(statuses, services.open_queue, state.backlog, pools.queues, tick)
    times = ledger.webhook_times()
    new = {name: at for name, at in times.items() if at != state.webhooks.get(name)}
    state.webhooks = {name: at for name, at in state.webhooks.items() if name in times}
    if batches or state.backlog.events or new:
        # Reading waited for messages: settings, and who holds a connection, may have changed.
        candidates = Candidates.of(context.instance, ledger, tick.enabled(ledger), pipeline)
        probes = select_keys(candidates, batches.values(), state.backlog, tick)
        compare_keys(probes, services.open_bucket, state.backlog, pools.buckets, tick)
        acknowledge(batches, pools.queues, tick)
        candidates = Candidates(candidates.statuses, candidates.pending.union(tick.requested))
        dealt_with = compare_labels(candidates, new, services.app, pools.labels, tick)
        state.webhooks |= {name: new[name] for name in dealt_with}
    for job, work in WORK_OF_JOBS.items():
        name = pipeline.name(job)
        changed = [request for request in tick.requests if request.job_name == name]
        ledger.record_changes(work, {str(request.partition_key): 0 for request in changed})
    _check_health(ledger, state, tick)
    unchanged = "a notification arrived, but nothing changed."
    return tick.result(context, ledger, tick.requested, state.cursor, unchanged)


def _check_health(ledger: Ledger, state: _State, tick: Tick) -> None:
    """Report ``connections_healthy`` if connections fail otherwise than at the last check."""
    now = ledger.now()
    if 0 <= now - state.checked_at < HEALTH_CHECK_SECONDS:  # else the clock was set back
        return
    failures, state.checked_at = failing_connections(ledger), now
    found = digest(" ".join(failure.values()) for failure in failures)
    if found != state.failures:
        state.failures = found
        key, fields = tick.pipeline.check(CONNECTIONS_HEALTHY), health_check_fields(failures)
        tick.checks.append(dg.AssetCheckEvaluation(key.asset_key, key.name, **fields))
