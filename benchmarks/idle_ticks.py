"""What a tick costs that finds nothing new: CPU time, ours and Label Studio's."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from benchmarks.processes import cpu_seconds_of
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors.completions import completions_tick
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.sensors.probes import ProbePool

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.ledger.ledger import Ledger

    Tick = Callable[[str | None], dg.SensorResult]
    """Run one tick with a cursor."""

TICKS = 5
"""Ticks of each sensor. The first opens connections, and is not counted."""


@dataclass(frozen=True)
class IdleTickCost:
    """The median CPU seconds of a tick that finds nothing new."""

    sensor: str
    ours: float
    label_studio: float


def idle_tick_costs(ledger: Ledger, label_studio: int) -> list[IdleTickCost]:
    """Run some ticks in this process; ``label_studio`` is the id of its process."""
    buckets, app = S3Buckets(), LabelStudio()
    with dg.DagsterInstance.ephemeral() as instance:
        bucket_probes, label_probes = ProbePool(), ProbePool()

        def tick_objects(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            return objects_tick(context, ledger, "s3", buckets.bucket_of, bucket_probes)

        def tick_completions(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            return completions_tick(context, ledger, app, label_probes)

        return [
            _cost("s3_objects", tick_objects, label_studio),
            _cost("completions", tick_completions, label_studio),
        ]


def _cost(sensor: str, tick: Tick, label_studio: int) -> IdleTickCost:
    cursor, ours, label_studios = None, [], []
    for _ in range(TICKS):
        before = time.process_time(), cpu_seconds_of(label_studio)
        cursor = tick(cursor).cursor
        ours.append(time.process_time() - before[0])
        label_studios.append(cpu_seconds_of(label_studio) - before[1])
    return IdleTickCost(sensor, statistics.median(ours[1:]), statistics.median(label_studios[1:]))
