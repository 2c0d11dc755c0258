"""The ``completions`` sensor: looks for labels that were finished, edited or deleted."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import dagster as dg

from ls_pipeline.assets.checks import LABELS_KEEP_COMING, labels_check_fields, stalled_connections
from ls_pipeline.assets.partitions import pending_connections
from ls_pipeline.engine.detect import AnnotationCounts, count_annotations, labels_changed
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.status import Standing
from ls_pipeline.sensors.probes import Deadline, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import Tick, enabled_statuses, rotate, skip_reason

LATE_SECONDS = 600.0
"""The pause between two looks for connections to which no labels come: it counts their tasks."""


def completions(seconds: int) -> dg.SensorDefinition:
    """Make the sensor that asks for ``export_completions`` where labels have changed."""
    looks = ProbePool()

    @dg.sensor(
        name="completions",
        job_name="export_completions",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Polls Label Studio for tasks whose annotations changed since their export, "
        "and asks for a run of each connection that has some.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        ledger: dg.ResourceParam[Ledger],
        label_studio: dg.ResourceParam[LabelingApp],
    ) -> dg.SensorResult:
        return completions_tick(context, ledger, label_studio, looks)

    return look


@dataclass
class _Seen:
    """What earlier ticks saw: nothing differed before a Label Studio time.

    It is ``upto`` for all connections but those in ``behind``, under ``settings`` that are told
    by a digest: with others, all is looked at again. ``late`` tells the connections to which no
    labels came, as they were at ``late_at``.
    """

    first: str = ""
    upto: str = ""
    behind: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    late: str = ""
    late_at: float = 0.0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "_Seen":
        """Take a cursor apart; one of an earlier version is none."""
        try:
            return cls(*json.loads(cursor or ""))
        except (ValueError, TypeError):
            return cls()

    @property
    def cursor(self) -> str:
        parts = self.first, self.upto, self.behind, self.settings, self.late, self.late_at
        return json.dumps(parts)

    def since(self, standing: Standing) -> str:
        """Give the time since when a connection's labels are to be looked at; empty: ever."""
        upto = self.behind.get(standing.name, self.upto)
        return standing.polled_to and max(standing.polled_to, upto)


def completions_tick(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    app: LabelingApp,
    looks: ProbePool | None = None,
) -> dg.SensorResult:
    """Compare Label Studio's annotations with the ledger; ask for a run where they differ.

    A connection of which nothing differed is looked at from that time on, so that tasks that were
    merely loaded are not listed again and again. Where it changes to which connections no labels
    came, the check is told.
    """
    standings = enabled_statuses(ledger, lambda one: one.target is not None)
    settings = _digest(f"{one.account.id} {one.revision}" for one in standings.values())
    seen, tick = _Seen.from_cursor(context.cursor), Tick()
    if seen.settings != settings:
        seen = _Seen(settings=settings, late=seen.late)
    names, looks = _who_may(context, standings, seen, tick), looks or ProbePool()
    told = _asked(app, standings, names, looks, tick)
    behind = {name: seen.behind.get(name, seen.upto) for name in standings}
    if told:

        def look(name: str, _turn: Deadline) -> ProbeResult:
            return _look(standings[name], app, seen, told)

        for name, found in looks.run_round_robin(names, look, tick.deadline):
            tick.take(name, found)
            if found.asof == told.now:
                del behind[name]
            elif found.asof:  # a look of an earlier tick that has come back
                behind[name] = found.asof
        seen.first = names[0] if names else ""
        seen.upto, seen.behind = told.now, behind
    if ledger.clock() >= seen.late_at + LATE_SECONDS:
        late, seen.late_at = stalled_connections(ledger), ledger.clock()
        if _digest(late) != seen.late:
            seen.late = _digest(late)
            check = dg.AssetCheckEvaluation(
                LABELS_KEEP_COMING.asset_key, LABELS_KEEP_COMING.name, **labels_check_fields(late)
            )
            tick.checked.append(check)
    return tick.result(context, standings, seen.cursor, "no new labels.")


def _asked(
    app: LabelingApp,
    standings: Mapping[str, Standing],
    names: Iterable[str],
    looks: ProbePool,
    tick: Tick,
) -> AnnotationCounts | None:
    """Ask Label Studio of all projects at once; None, and said of ``names``, when it is silent."""
    wanted = [number for one in standings.values() for number in one.project_ids]
    begun: list[str] = []

    def ask(name: str, _turn: Deadline) -> ProbeResult:
        begun.append(name)
        return ProbeResult(told=count_annotations(app, wanted))

    asked = deque([_LABEL_STUDIO] if names else [])
    for _, found in looks.run_round_robin(asked, ask, tick.deadline):
        told: AnnotationCounts | None = (
            found.told
        )  # or that of an earlier tick, which came too late for it
        if told:
            return told if begun else replace(told, is_late=True)
        for name in names:
            tick.skip(name, found.why)
    return None


_LABEL_STUDIO = "Label Studio"
"""No connection has a name with a space."""


def _who_may(
    context: dg.SensorEvaluationContext,
    standings: Mapping[str, Standing],
    seen: _Seen,
    tick: Tick,
) -> deque[str]:
    """Choose whom to look at, in turn; say of the others why not."""
    coming_runs, names = pending_connections(context.instance), deque[str]()
    for name in rotate(list(standings), seen.first):
        if reason := skip_reason(standings[name], coming_runs, "completions"):
            tick.skip(name, reason)
        else:
            names.append(name)
    return names


def _look(standing: Standing, app: LabelingApp, seen: _Seen, told: AnnotationCounts) -> ProbeResult:
    since = seen.since(standing)
    if told.is_ahead(since):  # its clock was set back: no time says what is new since
        if told.is_ahead(standing.polled_to):  # and the ledger's is for a pass to correct
            return ProbeResult(wanted=True)
        since = ""
    return look_at_labels(standing, app, since, told)


def look_at_labels(
    standing: Standing, app: LabelingApp, since: str, told: AnnotationCounts
) -> ProbeResult:
    """Look whether a connection's labels differ from what was exported."""
    target, ids = standing.connection.target, standing.project_ids
    if target is None:
        return ProbeResult()
    if not ids and standing.connection.source:
        return ProbeResult(why="no tasks were loaded yet.")
    # Without a source, nothing else will ever look its project up.
    if not ids or labels_changed(standing, target, app, since, told):
        return ProbeResult(wanted=True)
    return ProbeResult(asof=told.now)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
