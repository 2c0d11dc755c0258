"""How long a server may leave requests without an answer, before that counts as its fault."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from ls_pipeline.resources.environment import store_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SHORT_SECONDS = 5.0
"""How long a request waits for a server that was silent before."""


class Patience:
    """Waits for one server. Safe to use from several threads.

    A request may wait ``seconds``, with its repetitions; by default, LS_PIPELINE_STORE_SECONDS. If
    one ends unanswered, and no other was answered since it began, the server is silent: until it
    answers again, each request waits only ``short_seconds``. So a run ends soon, however many
    requests it has left, and one object that hangs does not hurry the others.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        short_seconds: float = 0.0,
    ) -> None:
        self.seconds = seconds or float(store_seconds())
        self.short_seconds = short_seconds or min(SHORT_SECONDS, self.seconds / 4)
        """How long a request waits for a silent server."""
        self.now = clock
        self.is_silent = False
        self._answered_at = float("-inf")
        self._of_thread = threading.local()
        self._late: Future[Any] | None = None
        """A call that was given up, and may not have ended."""

    def begin(self) -> float:
        """Return when a request of this thread begins: now, or when it began in another client."""
        began: float = vars(self._of_thread).pop("began", self.now())
        return began

    def hand_on(self, began: float) -> None:
        """Let another client repeat a request of this thread that began then."""
        self._of_thread.began = began

    @property
    def attempt_seconds(self) -> float:
        """How long one of a request's attempts waits."""
        return self.short_seconds if self.is_silent else self.seconds / 4

    def has_time_since(self, began: float) -> bool:
        """Return whether a request that began then may be sent once more."""
        most = self.short_seconds if self.is_silent else self.seconds
        return began + most - self.now() >= self.attempt_seconds

    def wait_for(self, call: Callable[[], T]) -> T:
        """Return what a call returns, however it waits for its answer: it runs in another thread.

        Raises ``TimeoutError`` if it has not ended in time. Its thread goes on, and if the call
        succeeds after all, that counts as an answer. Until then, no other call begins.
        """
        began, seconds = self.now(), self.short_seconds if self.is_silent else self.seconds
        late, future = self._late, Future[T]()
        if late is None or self._ended(late, seconds):
            threading.Thread(target=self._run, args=(call, future, began), daemon=True).start()
            if self._ended(future, seconds):
                return future.result()
            self._late = future
        self.unanswered(began)
        raise TimeoutError(f"no answer came within {seconds:g} seconds")

    @staticmethod
    def _ended(future: Future[Any], seconds: float) -> bool:
        return bool(wait([future], seconds).done)

    def _run(self, call: Callable[[], T], future: Future[T], began: float) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            if self.now() - began >= self.short_seconds:
                self.unanswered(began)
            future.set_exception(error)
        else:
            self.answered()
            future.set_result(result)

    def answered(self) -> None:
        """Record that the server answered a request."""
        self._answered_at, self.is_silent = self.now(), False

    def unanswered(self, began: float) -> None:
        """Record that a request that began then got no answer."""
        self.is_silent = self.is_silent or self._answered_at < began
