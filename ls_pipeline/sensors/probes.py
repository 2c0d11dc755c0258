"""Looks at many connections side by side, none of which can hold up the others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import LedgerError, PipelineError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

PROBES_AT_ONCE = 8
"""Looks at once: most of one is waiting for a bucket, or for Label Studio."""

TURN_SECONDS = 2.0
"""What a look may take before it is another's turn."""

SILENCE_SECONDS = 2.0
"""How much longer it may take to notice that, before its lane is given to another."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time that a look has, by the monotonic clock."""

    deadline: float

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a look found: whether a run is wanted, else why not, and how far it came."""

    wanted: bool = False
    why: str = ""
    reached: str = ""
    """The key after which to go on; empty: it came to the end."""
    asof: str = ""
    """The Label Studio time before which nothing differs; empty where none is known."""
    told: Any = None
    """What else it brings to who began it, or to a later tick."""


class ProbePool:
    """Takes looks, in threads that a tick needn't wait for.

    What never answers keeps a thread until its client gives up, which is minutes. No second look
    is begun meanwhile, and what the first finds after its tick is told by the next.
    """

    def __init__(self) -> None:
        self._out: dict[str, _Look] = {}

    def run_round_robin(
        self, names: deque[str], look: Callable[[str, Deadline], ProbeResult], deadline: float
    ) -> Iterator[tuple[str, ProbeResult]]:
        """Give each name a turn, and who did not come to the end another, until the deadline.

        Names are taken from the left, the first of them whatever the time; those that are left
        have had none. Raises ``LedgerError`` as a look of this tick does; whatever else one raises
        is why it found nothing.
        """
        back: SimpleQueue[_Look] = SimpleQueue()
        mine: list[_Look] = []
        begun = False
        while names or mine:
            now = time.monotonic()
            busy = sum(not one.is_silent(now) for one in mine)
            if now >= deadline and begun and not busy:
                break
            while names and busy < PROBES_AT_ONCE and (now < deadline or not begun):
                name, begun = names.popleft(), True
                if found := self._earlier(name):
                    yield name, found
                else:
                    turn = Deadline(min(now + TURN_SECONDS, deadline))
                    self._out[name] = one = _Look(name, look, turn, back)
                    mine.append(one)
                    busy += 1
                    one.start()
            try:
                one = back.get(timeout=0.1)
            except Empty:
                continue
            mine.remove(one)
            self._out.pop(one.name, None)
            came = one.found
            if isinstance(came, LedgerError):
                raise came
            assert came is not None  # noqa: S101 - for the type alone
            yield one.name, came
            if came.reached:
                names.append(one.name)
        for one in mine:
            yield one.name, ProbeResult(why="no answer came in time.")

    def _earlier(self, name: str) -> ProbeResult | None:
        """Give what a look of an earlier tick found, or that it is not back; None without one."""
        earlier = self._out.get(name)
        if earlier is None:
            return None
        if earlier.found is None:
            return ProbeResult(why="a look that began earlier has not come back yet.")
        del self._out[name]
        if isinstance(earlier.found, LedgerError):  # of an outage that may be over
            return ProbeResult(why=str(earlier.found))
        return earlier.found


class _Look(Thread):
    """One look, and what it found once it has come back."""

    def __init__(
        self,
        name: str,
        look: Callable[[str, Deadline], ProbeResult],
        turn: Deadline,
        back: SimpleQueue[_Look],
    ) -> None:
        super().__init__(name=name, daemon=True)  # or a process could not end before it
        self.look, self.turn, self.back = look, turn, back
        self.found: ProbeResult | LedgerError | None = None

    def run(self) -> None:
        try:
            self.found = self.look(self.name, self.turn)
        except LedgerError as error:
            self.found = error
        except PipelineError as error:
            self.found = ProbeResult(why=str(error))
        except Exception as error:  # noqa: BLE001 - of one connection: the others go on
            self.found = ProbeResult(why=f"{type(error).__name__}: {error}")
        self.back.put(self)

    def is_silent(self, now: float) -> bool:
        return now >= self.turn.deadline + SILENCE_SECONDS
