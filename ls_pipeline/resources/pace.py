"""Answers that come byte by byte: a timeout that each byte starts again would never end.

A client's read timeout bounds the wait for the next byte. Here it also bounds all waiting for one
answer, plus a second for each `LEAST_RATE` bytes that came.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEAST_RATE = 1024
"""Bytes a second that a slow answer needs to continue."""


class Pace:
    """How much longer one answer may take. Only waiting counts, not what is done in between."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._now = seconds, clock

    def read(self, timeout: float, read: Callable[[float], int]) -> int:
        """Return how many bytes ``read`` received; it gets the seconds that it may wait.

        Raises ``TimeoutError`` if no time is left.
        """
        if self._left <= 0:
            raise TimeoutError("the answer comes too slowly")
        began = self._now()
        count = read(min(timeout, self._left))
        self._left += count / LEAST_RATE - (self._now() - began)
        return count


class _Reader(io.RawIOBase):
    """The stream of a socket's answer."""

    def __init__(self, stream: Any, sock: Any, timeout: float) -> None:
        self._stream, self._sock, self._timeout = stream, sock, timeout
        self._pace = Pace(timeout)

    def readinto(self, buffer: Any, /) -> int:
        return self._pace.read(self._timeout, lambda seconds: self._receive(buffer, seconds))

    def _receive(self, buffer: Any, seconds: float) -> int:
        self._sock.settimeout(seconds)
        count: int = self._stream.readinto(buffer)
        return count

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        number: int = self._stream.fileno()
        return number

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer to a request of urllib3."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        if timeout := sock.gettimeout():
            stream: Any = self.fp
            self.fp = io.BufferedReader(_Reader(stream.detach(), sock, timeout))


def keep_pace(client: Any) -> None:
    """Let the answers to a client of botocore keep pace."""
    pace_session(client._endpoint.http_session)  # noqa: SLF001 - the only way


def pace_session(session: Any) -> None:
    """Let the answers of a session of botocore keep pace."""
    pools = session._pool_classes_by_scheme  # noqa: SLF001 - the only way
    pools |= paced(pools)


def paced(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return urllib3's classes of pools, by scheme, with connections whose answers keep pace."""
    return {scheme: _paced(pool) for scheme, pool in pools.items()}


def _paced(pool: Any) -> Any:
    connection = type("PacedConnection", (pool.ConnectionCls,), {"response_class": _Response})
    return type("PacedPool", (pool,), {"ConnectionCls": connection})
