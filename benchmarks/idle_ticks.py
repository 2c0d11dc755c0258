"""What one tick costs with nothing else going on: processor time, ours and Label Studio's."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from benchmarks.contender import processor_of
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors.completions import completions_tick
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.sensors.probes import ProbePool

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.ledger.ledger import Ledger

TICKS = 5
"""Of each sensor; the first, which opens connections, does not count."""


@dataclass(frozen=True)
class Alone:
    """The processor seconds of a tick that found nothing, by medians."""

    sensor: str
    ours: float
    label_studio: float


def ticks_alone(ledger: Ledger, label_studio: int) -> list[Alone]:
    """Take some ticks in this process; ``label_studio`` is the id of its process."""
    buckets, app = S3Buckets(), LabelStudio()
    with dg.DagsterInstance.ephemeral() as instance:
        looks, labels = ProbePool(), ProbePool()

        def at_buckets(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            return objects_tick(context, ledger, "s3", buckets.bucket_of, looks)

        def at_labels(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            return completions_tick(context, ledger, app, labels)

        return [
            _alone("s3_objects", at_buckets, label_studio),
            _alone("completions", at_labels, label_studio),
        ]


def _alone(sensor: str, tick: Callable[[str | None], dg.SensorResult], label_studio: int) -> Alone:
    cursor, ours, theirs = None, [], []
    for _ in range(TICKS):
        began = time.process_time(), processor_of(label_studio)
        cursor = tick(cursor).cursor
        ours.append(time.process_time() - began[0])
        theirs.append(processor_of(label_studio) - began[1])
    return Alone(sensor, statistics.median(ours[1:]), statistics.median(theirs[1:]))
