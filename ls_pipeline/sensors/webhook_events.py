"""Whose labels Label Studio's webhooks hint at, and what a look finds there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ls_pipeline.engine.detect import AnnotationCounts
from ls_pipeline.sensors.completions import look_at_labels
from ls_pipeline.sensors.probes import Deadline, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import skip_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.status import Standing
    from ls_pipeline.sensors.tick import Tick

SETTLING_SECONDS = 3.0
"""What a label may take, after Label Studio told of it, until it is seen there."""


def follow(  # noqa: PLR0913, PLR0917 - the parts that a tick puts together
    standings: Mapping[str, Standing],
    hinted: Mapping[str, float],
    app: LabelingApp,
    coming: Collection[str],
    looks: ProbePool,
    tick: Tick,
) -> list[str]:
    """Look at the labels that were hinted at, side by side; give who is dealt with.

    Not dealt with is who has to wait, and where nothing is to be seen yet of what was told.
    """
    names, done = deque[str](), list[str]()
    for name in hinted:
        standing = standings.get(name)
        if not standing or not standing.connection.target or not standing.project_ids:
            done.append(name)
        elif reason := skip_reason(standing, coming, "completions"):
            tick.skip(name, reason)
        else:
            names.append(name)

    def look(name: str, _turn: Deadline) -> ProbeResult:
        standing = standings[name]
        told = AnnotationCounts("", app.count_annotations(standing.project_ids))
        return look_at_labels(standing, app, standing.polled_to, told)

    for name, found in looks.run_round_robin(names, look, tick.deadline):
        tick.take(name, found)
        clock = standings[name].account.ledger.clock
        if found.wanted or found.why or clock() - hinted[name] >= SETTLING_SECONDS:
            done.append(name)
    return done
