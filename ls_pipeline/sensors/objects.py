"""The sensors ``s3_objects`` and ``gcs_objects``: they compare buckets with the ledger."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import dagster as dg
from pydantic import Field

from ls_pipeline.assets.pipeline import STANDALONE, Pipeline
from ls_pipeline.assets.systems import Systems
from ls_pipeline.engine.detect import scan_source
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.status import ConnectionStatus
from ls_pipeline.sensors.probes import Deadline, Probe, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import Candidates, State, Tick, record_tick, rotate
from ls_pipeline.settings.model import Connection, Source


def objects(pipeline: Pipeline, cloud: Literal["s3", "gcs"], seconds: int) -> dg.SensorDefinition:
    """Return the sensor that requests ``load_tasks`` if a bucket of a cloud has changed."""
    pool, name = ProbePool(), f"{cloud}_objects"

    @dg.sensor(
        name=pipeline.name(name),
        job_name=pipeline.name("load_tasks"),
        minimum_interval_seconds=seconds,
        default_status=pipeline.sensor_status,
        required_resource_keys=pipeline.names("ledger", cloud),
        description=f"Compares the {cloud.upper()} buckets of all connections with the ledger, and "
        "requests a run of each connection whose bucket differs.",
    )
    def objects(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        systems = Systems(pipeline, context.resources)
        ledger = systems.ledger
        result = objects_tick(context, ledger, cloud, systems.bucket_of, pool, pipeline)
        record_tick(context.instance, ledger, name, seconds, pipeline)
        return result

    return objects


class _State(State):
    """The connection to begin with, and where scans stopped."""

    first: str = ""
    after: dict[str, str] = Field(default_factory=dict)
    """By connection, the last key that an unfinished scan compared."""


def objects_tick(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    cloud: str,
    open_bucket: Callable[[Source], Bucket],
    pool: ProbePool | None = None,
    pipeline: Pipeline = STANDALONE,
) -> dg.SensorResult:
    """Compare the buckets of one cloud with the ledger; request a run of those that differ.

    If the time runs out, the next tick continues from the cursor.
    """
    state, tick = _State.from_cursor(context.cursor), Tick(pipeline)
    statuses = tick.enabled(ledger, partial(_has_source, cloud))
    rotated = rotate(list(statuses), state.first)
    candidates = Candidates.of(context.instance, ledger, statuses, pipeline)
    names = tick.admit(candidates, rotated, "tasks")
    state.after = {name: key for name, key in state.after.items() if name in names}

    def probe_of(name: str) -> Probe:
        return partial(_probe, statuses[name], open_bucket, state.after.get(name, ""))

    for name, result in (pool or ProbePool()).run_round_robin(names, probe_of, tick.deadline):
        state.after.pop(name, None)
        if result.reached:
            state.after[name], tick.looks[name] = result.reached, ""
        else:
            tick.record(name, result)
    state.first = names[0] if names else ""
    ledger.record_looks("tasks", tick.looks)
    ledger.record_changes("tasks", tick.changes)
    return tick.result(context, ledger, statuses, state.cursor, "nothing new.")


def _has_source(cloud: str, connection: Connection) -> bool:
    return connection.source is not None and connection.source.cloud == cloud


def _probe(
    status: ConnectionStatus,
    open_bucket: Callable[[Source], Bucket],
    after: str,
    deadline: Deadline,
) -> ProbeResult:
    """Compare a connection's source with the ledger, from a key on."""
    source = status.connection.source
    if source is None:
        return ProbeResult()
    bucket = open_bucket(source)
    scan = scan_source(status.ledger, source, bucket, after, lambda: deadline.has_passed)
    return ProbeResult(wanted=scan.changed, reached=scan.reached, objects=scan.objects)
