"""Caches for clients, which cost more to create than most requests that they send."""

from __future__ import annotations

import gc
import time
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

SECONDS = 60.0
"""Lifetime of a cached value, so that changed credentials are noticed after a minute."""

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class OncePerKey(Generic[Key, Value]):
    """A value for each key, created at its first use and kept.

    Safe to use from several threads: for one key they all get the same value. While it is created,
    only those that want it wait.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._locks: dict[Key, Lock] = {}
        self._values: dict[Key, Value] = {}

    def get(self, key: Key, create: Callable[[], Value]) -> Value:
        """Return the value of a key; an error of ``create`` passes, and the next call retries."""
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._values:
                self._values[key] = create()
            return self._values[key]


class TTLCache(Generic[Value]):
    """One value, created again after `SECONDS`. Safe to use from several threads."""

    def __init__(
        self, create: Callable[[], Value], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._create, self._clock = create, clock
        self._lock = Lock()
        self._value: Value | None = None
        self._expires = 0.0

    def get(self) -> Value:
        """Return the current value."""
        with self._lock:
            now = self._clock()
            if self._value is None or now >= self._expires:
                is_replaced, self._value = self._value is not None, self._create()
                self._expires = now + SECONDS
                if is_replaced:  # clients are reference cycles, which would pile up
                    gc.collect()
            return self._value
