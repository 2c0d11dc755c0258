"""What a sensor's tick does: which connections may get a run, and why others get none."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ls_pipeline.assets.partitions import pending_connections
from ls_pipeline.assets.pipeline import STANDALONE
from ls_pipeline.domain.text import visible
from ls_pipeline.engine.declare import apply_declarations
from ls_pipeline.resources.ledger.health import at_time, is_waiting
from ls_pipeline.resources.ledger.records import DECLARATION, QUEUE
from ls_pipeline.resources.ledger.ticks import SENSOR_NAMES
from ls_pipeline.sensors.dead_runs import report_dead_runs
from ls_pipeline.sensors.probes import Deadline
from ls_pipeline.sensors.stalled_runs import find_stalled_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from ls_pipeline.assets.pipeline import Pipeline
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.resources.ledger.status import ConnectionStatus
    from ls_pipeline.sensors.probes import ProbeResult
    from ls_pipeline.settings.model import Connection

TICK_SECONDS = 10.0
"""How long a tick may take. Dagster stops waiting after 60 s, but does not stop the function."""

DECLARE_SECONDS = 3.0
"""After this time a tick applies no further declaration; the next tick continues."""

SENTENCES_AT_MOST = 20
NAMES_AT_MOST = 3
"""Limits of a skip message: Dagster stores the message of every tick."""


class State(BaseModel):
    """What a tick leaves to the next: the fields of a sensor, which its cursor holds as JSON."""

    model_config = ConfigDict(strict=True)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Self:
        """Parse a cursor. One of another version, or of anything else, counts as none."""
        try:
            return cls.model_validate_json(cursor or "")
        except ValidationError:
            return cls()

    @property
    def cursor(self) -> str:
        return self.model_dump_json()


@dataclass(frozen=True, slots=True)
class Candidates:
    """The enabled connections that a sensor serves, at one moment."""

    statuses: Mapping[str, ConnectionStatus]
    pending: set[str]
    """Those that a run will soon hold."""

    @classmethod
    def of(
        cls,
        instance: dg.DagsterInstance,
        ledger: Ledger,
        statuses: Mapping[str, ConnectionStatus],
        pipeline: Pipeline,
    ) -> Candidates:
        """Read which connections runs will soon hold. Runs that died count no more."""
        report_dead_runs(instance, ledger, statuses, pipeline)
        waiting = find_stalled_runs(instance, statuses, pipeline)
        ledger.record_looks(QUEUE, {name: waiting.get(name, "") for name in statuses})
        return cls(statuses, pending_connections(instance, pipeline) if statuses else set())


@dataclass
class Tick:
    """The runs that a tick requests, and the reasons why other connections get none."""

    pipeline: Pipeline = STANDALONE
    idle: str = "Nothing to watch yet."
    """The skip message if nothing else was skipped."""
    requests: list[dg.RunRequest] = field(default_factory=list)
    skipped: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Reasons, and the connections that each concerns; the most important come first."""
    unchanged: list[str] = field(default_factory=list)
    looks: dict[str, str] = field(default_factory=dict)
    """What this tick found of connections: why a look failed, or nothing."""
    changes: dict[str, int | None] = field(default_factory=dict)
    """Of how many objects this tick found changes, 0 if unknown; None if a look found none."""
    checks: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    deadline: Deadline = field(default_factory=lambda: Deadline.after(TICK_SECONDS))

    @property
    def requested(self) -> list[str]:
        """The names of the connections in ``requests``."""
        return [str(request.partition_key) for request in self.requests]

    def enabled(
        self, ledger: Ledger, select: Callable[[Connection], bool] = lambda _: True
    ) -> dict[str, ConnectionStatus]:
        """Return the status of each enabled connection that ``select`` accepts, by name.

        Applies what changed in the declared connections before. Skips the connections whose stored
        settings are refused.
        """
        self._declare(ledger)
        statuses = ledger.statuses()
        for status in statuses:
            if status.refusal and status.name not in self.skipped[status.refusal]:
                self.skip(status.name, status.refusal)
        return {
            status.name: status
            for status in statuses
            if not status.refusal and status.connection.enabled and select(status.connection)
        }

    def _declare(self, ledger: Ledger) -> None:
        declarations, place = self.pipeline.declarations, self.pipeline.declared_in
        if place:
            until = min(Deadline.after(DECLARE_SECONDS), self.deadline)
            looks = apply_declarations(ledger, declarations, place, lambda: not until.has_passed)
            ledger.record_looks(DECLARATION, looks)

    def admit(self, candidates: Candidates, names: Iterable[str], work: str) -> deque[str]:
        """Return the connections that may get a run now; skip the others."""
        admitted = deque[str]()
        for name in names:
            if reason := skip_reason(candidates.statuses[name], candidates.pending, work):
                self.skip(name, reason)
            else:
                admitted.append(name)
        return admitted

    def record(self, name: str, result: ProbeResult, job: str | None = None) -> None:
        """Add the result of a complete probe; a sensor with several jobs names one of them.

        ``job`` is the name without the prefix.
        """
        self.looks[name] = result.reason if result.failed else ""
        if result.wanted:
            self.changes[name] = result.objects
            job_name = self.pipeline.name(job) if job else None
            self.requests.append(dg.RunRequest(partition_key=name, job_name=job_name))
        elif result.reason:
            self.skip(name, result.reason)
        else:
            self.changes[name] = None
            self.unchanged.append(name)

    def skip(self, name: str, reason: str) -> None:
        self.skipped[reason].append(name)

    def sentences(self, unchanged: str) -> list[str]:
        """Return the reasons for no run, and ``unchanged`` for connections without changes."""
        reasons = [visible(f"{_listed(names)}: {why}") for why, names in self.skipped.items()]
        more = len(reasons) - SENTENCES_AT_MOST
        if more > 0:
            reasons[SENTENCES_AT_MOST:] = [f"And {more} more reasons."]
        return reasons + ([f"{_listed(self.unchanged)}: {unchanged}"] if self.unchanged else [])

    def result(
        self,
        context: dg.SensorEvaluationContext,
        ledger: Ledger,
        names: Iterable[str],
        cursor: str,
        unchanged: str,
    ) -> dg.SensorResult:
        """Return the requests, or a skip message.

        Adds the partitions that ``names`` lack, and removes those of removed connections.
        """
        sentences = self.sentences(unchanged)
        if self.requests:  # an idle tick writes no log: Dagster never removes the files
            for sentence in sentences:
                context.log.info(sentence)
        connections = self.pipeline.partitions
        partitions = set(context.instance.get_dynamic_partitions(str(connections.name)))
        missing = [name for name in names if name not in partitions]
        left = sorted(partitions & ledger.removed_names())
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else " ".join(sentences) or self.idle,
            dynamic_partitions_requests=[
                *([connections.build_add_request(missing)] if missing else []),
                *([connections.build_delete_request(left)] if left else []),
            ],
            cursor=cursor,
            asset_events=self.checks,
        )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= NAMES_AT_MOST:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} others"


def skip_reason(status: ConnectionStatus, pending: Collection[str], work: str) -> str:
    """Return why a connection must not get a run now; empty if it may."""
    if status.held_by:
        return f"{status.held_by} is working on it."
    if status.name in pending:
        return "a run is under way."
    health = status.health(work)
    if is_waiting(health, status.read_at):
        when = at_time(health.retry_at, status.read_at)
        return f"{health.failure} Trying again {when}."
    return ""


def rotate(names: Sequence[str], first: str) -> list[str]:
    """Return sorted names from ``first`` on, then those before it: none is always last."""
    later = [name for name in names if name >= first]
    return later + [name for name in names if name < first]


def record_tick(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    sensor: str,
    interval: float,
    pipeline: Pipeline = STANDALONE,
) -> None:
    """Record that a tick of a sensor succeeded, and which sensors a person switched off."""
    if ledger.ticks.record(sensor, interval):
        ledger.ticks.forget(switched_off(instance, pipeline))


def switched_off(instance: dg.DagsterInstance, pipeline: Pipeline = STANDALONE) -> set[str]:
    """Return the names, without the prefix, of the sensors that a person switched off."""
    states = instance.all_instigator_state()
    stopped = {state.instigator_name for state in states if state.status.value == "STOPPED"}
    return {sensor for sensor in SENSOR_NAMES if pipeline.name(sensor) in stopped}


def digest(parts: Iterable[str]) -> str:
    """Return a short text that differs if the parts do, for a cursor."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
