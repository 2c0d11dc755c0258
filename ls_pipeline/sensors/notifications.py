"""The ``notifications`` sensor: looks where something is said to have happened, within seconds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ls_pipeline.assets.partitions import pending_connections
from ls_pipeline.assets.run import bucket_of
from ls_pipeline.domain.events import BucketEvent
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.queue import Queue, QueueOpener
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors import bucket_events, webhook_events
from ls_pipeline.sensors.bucket_events import Backlog
from ls_pipeline.sensors.probes import ProbePool
from ls_pipeline.sensors.tick import Tick, enabled_statuses
from ls_pipeline.settings.model import Source


@dataclass(frozen=True)
class ProbePools:
    """Where the sensor looks, each kind of look beside the others."""

    queues: ProbePool = field(default_factory=ProbePool)
    buckets: ProbePool = field(default_factory=ProbePool)
    labels: ProbePool = field(default_factory=ProbePool)


def notifications(seconds: int, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Make the sensor that asks for a run where a notification led to a change.

    ``jobs`` are ``load_tasks`` and ``export_completions``.
    """
    lanes = ProbePools()

    @dg.sensor(
        name="notifications",
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at the keys that buckets' notifications name, and at the labels that "
        "Label Studio's webhooks tell of, and asks for a run of each connection where something "
        "differs from the ledger.",
    )
    def look(  # noqa: PLR0913, PLR0917 - the outside world, a part each
        context: dg.SensorEvaluationContext,
        ledger: dg.ResourceParam[Ledger],
        s3: S3Buckets,
        gcs: GCSBuckets,
        queues: dg.ResourceParam[QueueOpener],
        label_studio: dg.ResourceParam[LabelingApp],
    ) -> dg.SensorResult:
        return notifications_tick(
            context, ledger, lambda one: bucket_of(one, s3, gcs), queues.open, label_studio, lanes
        )

    return look


def notifications_tick(  # noqa: PLR0913, PLR0917 - the outside world, a part each
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    open_bucket: Callable[[Source], Bucket],
    open_queue: Callable[[Source], Queue],
    app: LabelingApp,
    lanes: ProbePools | None = None,
) -> dg.SensorResult:
    """Look where notifications lead; ask for a run where something differs from the ledger.

    A connection that needs a run of both jobs gets the first; the other is for the next tick.
    """
    lanes, loads = lanes or ProbePools(), Tick("load_tasks", idle="Nothing was told.")
    exports = Tick(
        "export_completions", said=loads.said, quiet=loads.quiet, deadline=loads.deadline
    )
    memory, dealt_with = _remembered(context.cursor)
    standings = enabled_statuses(ledger, lambda _: True)
    if not any(map(bucket_events.queue_of, standings.values())):
        loads.idle = "No connection has notifications."
    came = bucket_events.read(standings, open_queue, memory, lanes.queues, loads)
    hinted = ledger.hinted()
    news = {name: at for name, at in hinted.items() if at > dealt_with.get(name, 0.0)}
    dealt_with = {name: at for name, at in dealt_with.items() if name in hinted}
    if came or memory.kept or news:
        # Reading waited for messages: who works on a connection, and how it is set, may be news.
        standings, coming = (
            enabled_statuses(ledger, lambda _: True),
            pending_connections(context.instance),
        )
        bucket_events.follow(
            standings, came.values(), open_bucket, coming, memory, lanes.buckets, loads
        )
        bucket_events.acknowledge(came, lanes.queues, loads)
        coming |= set(loads.wanted)
        done = webhook_events.follow(standings, news, app, coming, lanes.labels, exports)
        dealt_with |= {name: news[name] for name in done}
    return loads.result(
        context,
        loads.wanted + exports.wanted,
        _cursor(memory, dealt_with),
        "nothing new where notifications led.",
        exports.requests,
    )


def _remembered(cursor: str | None) -> tuple[Backlog, dict[str, float]]:
    """Take a cursor apart; one of another version is empty."""
    try:
        told = json.loads(cursor or "")
        kept = {name: [BucketEvent(*one) for one in some] for name, some in told["kept"].items()}
        labels = {name: float(at) for name, at in told["labels"].items()}
        return Backlog(kept, str(told["turn"]), str(told["next"])), labels
    except (ValueError, TypeError, KeyError, AttributeError):
        return Backlog(), {}


def _cursor(memory: Backlog, dealt_with: dict[str, float]) -> str:
    turns = {"turn": memory.turn, "next": memory.next}
    return json.dumps({"kept": memory.kept, **turns, "labels": dealt_with})
