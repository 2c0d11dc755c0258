"""What is kept from tick to tick, for its clients cost more than most ticks do."""

from __future__ import annotations

import gc
import time
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 60.0
"""How long one is kept: what has changed in credentials or in the home is seen after it."""

Part = TypeVar("Part")


class TTLCache(Generic[Part]):
    """Gives the same part of the outside world for a while, then one made anew.

    Safe to use from several threads.
    """

    def __init__(
        self, make: Callable[[], Part], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make, self._clock = make, clock
        self._lock = Lock()
        self._part: Part | None = None
        self._until = 0.0

    def get(self) -> Part:
        with self._lock:
            now = self._clock()
            if self._part is None or now >= self._until:
                had, self._part = self._part is not None, self._make()
                self._until = now + SECONDS
                if had:  # clients hold themselves in circles, and would add up
                    gc.collect()
            return self._part
