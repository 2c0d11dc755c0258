"""Work in threads, with few items in memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

THREADS = 16

AHEAD = 64
"""Items that may be worked on before their turn."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    items: Iterable[Item], work: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what ``work`` returns for it, in the order of the items.

    The items are asked for in the caller's thread. An error of ``work`` passes, and what has not
    begun then never begins.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(THREADS) as workers:
        try:
            for item in items:
                waiting.append((item, workers.submit(work, item)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            workers.shutdown(cancel_futures=True)
