"""Webhooks of Label Studio: each names a connection whose labels may have changed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ls_pipeline.engine.detect import AnnotationCounts
from ls_pipeline.sensors.completions import probe_labels
from ls_pipeline.sensors.probes import Deadline, Probe, ProbePool, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.status import ConnectionStatus
    from ls_pipeline.sensors.tick import Candidates, Tick

LABEL_DELAY_SECONDS = 3.0
"""How long after its webhook a label may still be invisible in Label Studio."""


def compare_labels(
    candidates: Candidates,
    times: Mapping[str, float],
    app: LabelingApp,
    pool: ProbePool,
    tick: Tick,
) -> list[str]:
    """Request ``export_completions`` of connections with new labels; return those dealt with.

    ``times`` has the newest webhook of each connection. A connection that must wait is not dealt
    with, nor is one whose label may still be invisible.
    """
    statuses = candidates.statuses
    exporting = [
        name
        for name in times
        if name in statuses and statuses[name].connection.target and statuses[name].project_ids
    ]
    dealt_with = [name for name in times if name not in exporting]

    def probe_of(name: str) -> Probe:
        return partial(_probe, statuses[name], app)

    names = tick.admit(candidates, exporting, "completions")
    for name, result in pool.run_round_robin(names, probe_of, tick.deadline):
        tick.record(name, result, "export_completions")
        age = statuses[name].ledger.now() - times[name]
        may_be_invisible = 0 <= age < LABEL_DELAY_SECONDS  # if negative, the clock was set back
        if result.wanted or result.reason or not may_be_invisible:
            dealt_with.append(name)
    return dealt_with


def _probe(status: ConnectionStatus, app: LabelingApp, deadline: Deadline) -> ProbeResult:
    counts = AnnotationCounts(app.count_annotations(status.project_ids))
    return probe_labels(status, app, status.polled_to, counts, deadline)
