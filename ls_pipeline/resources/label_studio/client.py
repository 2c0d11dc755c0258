"""An HTTP client that reads no answer without an end: neither in bytes nor in time."""

from __future__ import annotations

import os
import ssl
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpcore
import httpx

from ls_pipeline.domain.errors import AnswerTooLargeError
from ls_pipeline.resources.pace import Pace

LARGEST_ANSWER = 256 * 2**20
"""Bytes of an answer, uncompressed."""

MOST_BYTES = "x-ls-pipeline-most-bytes"
"""A header with a smaller bound for one answer. It is not sent."""

ANSWER_SECONDS = 900.0
"""How long an answer may take from the request to its last byte."""


class LazyContext(ssl.SSLContext):
    """Parses the certificates of authorities for each https connection, and not before.

    That takes as long as several requests, and a server at an http address needs none of them.
    """

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return httpx.create_ssl_context().wrap_socket(*args, **options)


def lazy_context() -> LazyContext:
    """Return a context for a client of a server at an http address.

    Raises ``OSError`` if SSL_CERT_FILE names no certificates.
    """
    file = os.environ.get("SSL_CERT_FILE")
    if file and b"-----BEGIN" not in Path(file).read_bytes():
        raise ssl.SSLError(f"{file} has no certificate")
    return LazyContext(ssl.PROTOCOL_TLS_CLIENT)


class BoundedClient(httpx.Client):
    """A client whose answers are read while they keep within the bounds.

    Raises ``AnswerTooLargeError``, and ``httpx.ReadTimeout`` for an answer that does not end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(event_hooks={"response": [_drop_body_of_redirect]}, **options)

    def _init_transport(self, *arguments: Any, **options: Any) -> httpx.BaseTransport:
        return _paced(super()._init_transport(*arguments, **options))

    def _init_proxy_transport(self, *arguments: Any, **options: Any) -> httpx.BaseTransport:
        return _paced(super()._init_proxy_transport(*arguments, **options))

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        until = time.monotonic() + ANSWER_SECONDS
        most = int(request.headers.pop(MOST_BYTES, LARGEST_ANSWER))
        with closing(super().send(request, **{**options, "stream": True})) as answer:
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > most:
                    raise AnswerTooLargeError(str(request.url.copy_with(query=None)))
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("its answer does not end", request=request)
        headers = [item for item in answer.headers.multi_items() if item[0] not in _OF_THE_BODY]
        return httpx.Response(
            answer.status_code,
            headers=headers,
            content=bytes(body),
            request=answer.request,
            extensions=answer.extensions,
            history=answer.history,
        )


_OF_THE_BODY = {"content-encoding", "content-length", "transfer-encoding"}
"""Headers about a body that is decoded by now."""


def _drop_body_of_redirect(answer: httpx.Response) -> None:
    """Leave the body of a redirect unread."""
    if answer.has_redirect_location and isinstance(answer.stream, httpx.SyncByteStream):
        answer.stream.close()
        answer.stream = httpx.ByteStream(b"")


def _paced(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    """Return a transport; if it opens connections, their answers keep pace."""
    if isinstance(transport, httpx.HTTPTransport):
        pool: Any = transport._pool  # noqa: SLF001 - the only way
        pool._network_backend = _PacedNetwork(pool._network_backend)  # noqa: SLF001
    return transport


class _PacedNetwork(httpcore.NetworkBackend):
    """Opens connections for one request each."""

    def __init__(self, own: httpcore.NetworkBackend) -> None:
        self._own = own

    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        return _PacedStream(self._own.connect_tcp(*arguments, **options))


class _PacedStream(httpcore.NetworkStream):
    """A connection."""

    def __init__(self, own: httpcore.NetworkStream) -> None:
        self._own = own
        self._pace: Pace | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return self._own.read(max_bytes)
        self._pace = self._pace or Pace(timeout)
        received = b""

        def read(seconds: float) -> int:
            nonlocal received
            received = self._own.read(max_bytes, seconds)
            return len(received)

        try:
            self._pace.read(timeout, read)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from None
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._own.write(buffer, timeout)

    def close(self) -> None:
        self._own.close()

    def start_tls(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        return _PacedStream(self._own.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._own.get_extra_info(info)
