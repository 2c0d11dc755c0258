"""The ``completions`` sensor: finds labels that were finished, edited or deleted."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import dagster as dg
from pydantic import Field

from ls_pipeline.assets.checks import LABELS_KEEP_COMING, labels_check_fields, stalled_connections
from ls_pipeline.assets.pipeline import STANDALONE, Pipeline
from ls_pipeline.assets.systems import Systems
from ls_pipeline.domain.moments import Moment
from ls_pipeline.engine.detect import AnnotationCounts, count_annotations, labels_changed
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.status import ConnectionStatus
from ls_pipeline.sensors.probes import Deadline, Probe, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import Candidates, State, Tick, digest, record_tick, rotate

STALLED_CHECK_SECONDS = 600.0
"""The pause between two checks for connections without new labels: each counts their tasks."""


def completions(pipeline: Pipeline, seconds: int) -> dg.SensorDefinition:
    """Return the sensor that requests ``export_completions`` if labels have changed."""
    pool = ProbePool()

    @dg.sensor(
        name=pipeline.name("completions"),
        job_name=pipeline.name("export_completions"),
        minimum_interval_seconds=seconds,
        default_status=pipeline.sensor_status,
        required_resource_keys=pipeline.names("ledger", "label_studio"),
        description="Polls Label Studio for tasks whose annotations changed since their export, "
        "and requests a run of each connection that has such tasks.",
    )
    def completions(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        systems = Systems(pipeline, context.resources)
        ledger = systems.ledger
        result = completions_tick(context, ledger, systems.label_studio, pool, pipeline)
        record_tick(context.instance, ledger, "completions", seconds, pipeline)
        return result

    return completions


class _State(State):
    """Before which Label Studio time nothing differs."""

    first: str = ""
    """The connection to begin with."""
    as_of: Moment = ""
    """The time for all connections except those in ``behind``."""
    behind: dict[str, Moment] = Field(default_factory=dict)
    settings: str = ""
    """A digest of all settings: if they change, the times do not count."""
    stalled: str = ""
    """A digest of the connections without new labels, as the check last reported them."""
    stalled_at: float = 0.0

    def since(self, status: ConnectionStatus) -> str:
        """Return the Label Studio time to compare labels from; empty for all of them."""
        as_of = self.behind.get(status.name, self.as_of)
        return status.polled_to and max(status.polled_to, as_of)


def completions_tick(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    app: LabelingApp,
    pool: ProbePool | None = None,
    pipeline: Pipeline = STANDALONE,
) -> dg.SensorResult:
    """Compare Label Studio's annotations with the ledger; request a run if they differ.

    If nothing differs, the next tick lists only tasks that changed later. Reports the check
    ``labels_keep_coming`` when its result changes.
    """
    tick = Tick(pipeline)
    statuses = tick.enabled(ledger, lambda connection: connection.target is not None)
    settings = digest(f"{each.ledger.id} {each.revision}" for each in statuses.values())
    state = _State.from_cursor(context.cursor)
    if state.settings != settings:
        state = _State(settings=settings, stalled=state.stalled)
    candidates = Candidates.of(context.instance, ledger, statuses, pipeline)
    names = tick.admit(candidates, rotate(list(statuses), state.first), "completions")
    pool = pool or ProbePool()
    if counts := _count(app, statuses, names, pool, tick):
        behind = {name: state.behind.get(name, state.as_of) for name in statuses}

        def probe_of(name: str) -> Probe:
            status = statuses[name]
            return partial(probe_labels, status, app, state.since(status), counts)

        for name, result in pool.run_round_robin(names, probe_of, tick.deadline):
            tick.record(name, result)
            if result.as_of == counts.now:
                del behind[name]
            elif result.as_of:  # the late result of an earlier tick's probe
                behind[name] = result.as_of
        state.first = names[0] if names else ""
        state.as_of, state.behind = counts.now, behind
    ledger.record_looks("completions", tick.looks)
    ledger.record_changes("completions", tick.changes)
    _check_stalled(ledger, state, tick)
    return tick.result(context, ledger, statuses, state.cursor, "no new labels.")


def probe_labels(
    status: ConnectionStatus,
    app: LabelingApp,
    since: str,
    counts: AnnotationCounts,
    _deadline: Deadline,
) -> ProbeResult:
    """Compare a connection's labels with what was exported."""
    target = status.connection.target
    if target is None:
        return ProbeResult()
    if not status.project_ids and status.connection.source:
        return ProbeResult(reason="no tasks were loaded yet.")
    # Without a source, only an export can look up the project.
    if not status.project_ids or labels_changed(status, target, app, since, counts):
        return ProbeResult(wanted=True)
    return ProbeResult(as_of=counts.now)


_LABEL_STUDIO = "Label Studio"
"""The name of a probe: no connection's name has a space."""


def _count(
    app: LabelingApp,
    statuses: Mapping[str, ConnectionStatus],
    names: Iterable[str],
    pool: ProbePool,
    tick: Tick,
) -> AnnotationCounts | None:
    """Count the annotations in all projects; without an answer, skip ``names``."""
    project_ids = [number for status in statuses.values() for number in status.project_ids]

    def probe(_deadline: Deadline) -> ProbeResult:
        return ProbeResult(value=count_annotations(app, project_ids))

    probed = deque([_LABEL_STUDIO] if names else [])
    for _, result in pool.run_round_robin(probed, lambda _name: probe, tick.deadline):
        counts: AnnotationCounts | None = result.value
        if counts:
            return replace(counts, is_late=result.is_late)
        for name in names:
            tick.record(name, result)
    return None


def _check_stalled(ledger: Ledger, state: _State, tick: Tick) -> None:
    """Report ``labels_keep_coming`` if other connections than before have no new labels."""
    now = ledger.now()
    if 0 <= now - state.stalled_at < STALLED_CHECK_SECONDS:  # else the clock was set back
        return
    stalled, state.stalled_at = stalled_connections(ledger), now
    if digest(stalled) != state.stalled:
        state.stalled = digest(stalled)
        key, fields = tick.pipeline.check(LABELS_KEEP_COMING), labels_check_fields(stalled)
        tick.checks.append(dg.AssetCheckEvaluation(key.asset_key, key.name, **fields))
