"""Probes of many connections in parallel, so that a slow one does not delay the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from ls_pipeline.domain.errors import LedgerError, PipelineError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

PROBES_AT_ONCE = 8
"""Probes that run in parallel: most of their time is spent waiting for an answer."""

PROBE_SECONDS = 2.0
"""How long a probe may run before it must make room for the next."""

GRACE_SECONDS = 2.0
"""How long after its deadline a probe may still return; then another takes its place."""


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A time on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def has_passed(self) -> bool:
        return time.monotonic() >= self.at


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether a connection needs a run, and if not, why."""

    wanted: bool = False
    reason: str = ""
    objects: int = 0
    """How many objects differ, at least; 0 if unknown."""
    failed: bool = False
    """Whether the reason is a failure of what was asked."""
    reached: str = ""
    """The key to continue after; empty if the probe is complete."""
    as_of: str = ""
    """The Label Studio time before which nothing differs; empty if unknown."""
    value: Any = None
    """What else the probe returns to its caller."""
    is_late: bool = False
    """An earlier tick started the probe."""


Probe: TypeAlias = Callable[[Deadline], ProbeResult]


class ProbePool:
    """Runs probes in threads that a tick need not wait for.

    A request without an answer keeps its thread for minutes, until its client times out. Until
    then no second probe of that name starts. A later tick receives the result.
    """

    def __init__(self) -> None:
        self._running: dict[str, _RunningProbe] = {}
        """Used by the tick alone: a probe's thread sees only its own future."""

    def run_round_robin(
        self, names: deque[str], probe_of: Callable[[str], Probe], deadline: Deadline
    ) -> Iterator[tuple[str, ProbeResult]]:
        """Probe each name, and unfinished ones again in turn, until the deadline.

        Takes names from the left, at least one whatever the time; those that remain had no turn.
        ``probe_of`` is called by the tick, and the probe that it returns in a thread.
        Yields results as they arrive. An error becomes the reason of its result, except a
        ``LedgerError`` in a probe of this tick, which is raised.
        """
        running: list[_RunningProbe] = []
        started = False
        while names or running:
            busy = sum(not probe.is_overdue for probe in running)
            if deadline.has_passed and started and not busy:
                break
            while names and busy < PROBES_AT_ONCE and not (deadline.has_passed and started):
                name, started = names.popleft(), True
                if earlier := self._running.get(name):
                    yield name, self._late_result(earlier)
                else:
                    until = min(Deadline.after(PROBE_SECONDS), deadline)
                    self._running[name] = _RunningProbe(name, probe_of(name), until)
                    self._running[name].start()
                    running.append(self._running[name])
                    busy += 1
            wait([probe.future for probe in running], timeout=0.1, return_when=FIRST_COMPLETED)
            for probe in [probe for probe in running if probe.future.done()]:
                running.remove(probe)
                self._running.pop(probe.name, None)
                result = probe.future.result()
                yield probe.name, result
                if result.reached:
                    names.append(probe.name)
        for probe in running:
            yield probe.name, ProbeResult(reason="no answer came in time.", failed=True)

    def _late_result(self, probe: _RunningProbe) -> ProbeResult:
        """Return the result of a probe that an earlier tick started."""
        if not probe.future.done():
            return ProbeResult(reason="an earlier probe still waits for an answer.", failed=True)
        self._running.pop(probe.name, None)
        try:
            return replace(probe.future.result(), is_late=True)
        except LedgerError as error:  # of an outage that may be over
            return ProbeResult(reason=str(error), failed=True)


@dataclass(frozen=True, slots=True, eq=False)
class _RunningProbe:
    """A probe in a thread of its own."""

    name: str
    probe: Probe
    deadline: Deadline
    future: Future[ProbeResult] = field(default_factory=Future)

    def start(self) -> None:
        # A daemon: otherwise the process could not end before the thread does.
        Thread(target=self._run, name=self.name, daemon=True).start()

    def _run(self) -> None:
        try:
            result = self.probe(self.deadline)
        except LedgerError as error:
            self.future.set_exception(error)
            return
        except PipelineError as error:
            result = ProbeResult(reason=str(error), failed=True)
        except Exception as error:  # noqa: BLE001 - it concerns one connection only
            result = ProbeResult(reason=f"{type(error).__name__}: {error}", failed=True)
        self.future.set_result(result)

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() >= self.deadline.at + GRACE_SECONDS
