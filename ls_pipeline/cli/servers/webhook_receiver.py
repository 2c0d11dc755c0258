"""The receiver of Label Studio's webhooks. It notes in the ledger whose labels changed."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.labeling_app import SECRET_HEADER
from ls_pipeline.settings.validation import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from ls_pipeline.resources.ledger.ledger import Ledger

LARGEST_BODY = 64 * 2**10
"""Bytes. Label Studio sends only the name of an action."""

BODY_SECONDS = 5.0
"""The timeout of a body."""

HEAD_SECONDS = 5.0
"""The timeout of a request's headers. An idle client would block the place of another."""

MAX_CONNECTIONS = 256
"""More connections get the status 503."""

HEALTH_PATH, HEALTH_TEXT = "/health", "ls_pipeline waits for webhooks."

_log = logging.getLogger(__name__)


def serve(ledger: Ledger, secret: str, host: str, port: int) -> None:
    """Receive webhooks until Ctrl-C."""
    _server(ledger, secret, host, port).run()


@contextmanager
def serving(ledger: Ledger, secret: str, host: str, port: int) -> Iterator[str]:
    """Receive webhooks in a thread while the block runs. Yield the URL."""
    server = _server(ledger, secret, host, port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not server.started:
        thread.join(0.02)
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def answers_at(url: str) -> bool:
    """Return whether a receiver of ours answers at this URL."""
    try:
        answer = httpx.get(url + HEALTH_PATH, timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.text == HEALTH_TEXT


class _HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes connections that send no headers in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timeout = self.loop.call_later(HEAD_SECONDS, transport.close)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._timeout = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the headers of another request are complete
            self._timeout.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeout.cancel()
        super().connection_lost(exc)


def _server(ledger: Ledger, secret: str, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            receiver(ledger, secret),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            http=_HeaderTimeoutProtocol,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
    )


def receiver(ledger: Ledger, secret: str) -> Starlette:
    """Return the application: ``POST /connections/<name>`` with the secret."""
    pending, writing = set[str](), asyncio.Lock()

    async def record(name: str) -> None:
        async with writing:
            pending.discard(name)
            try:
                await asyncio.to_thread(ledger.mark_webhook, name)
            except LedgerError as error:
                _log.warning("%s", error)

    async def receive(request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not (secret and hmac.compare_digest(given.encode(), secret.encode())):
            return PlainTextResponse(f"{SECRET_HEADER} is not the secret.", 401)
        if refusal := await _refusal(request):
            return refusal
        name = request.path_params["name"]
        if not NAME.fullmatch(name):
            return PlainTextResponse("No connection can have this name.", 404)
        if name in pending:  # the write that is about to start covers this call, too
            return Response(status_code=204)
        pending.add(name)
        # An annotator waits for Label Studio, and Label Studio for this response: write after it.
        return Response(status_code=204, background=BackgroundTask(record, name))

    async def health(_request: Request) -> Response:
        return PlainTextResponse(HEALTH_TEXT)

    return Starlette(
        routes=[
            Route("/connections/{name}", receive, methods=["POST"]),
            Route(HEALTH_PATH, health, methods=["GET"]),
        ]
    )


async def _refusal(request: Request) -> Response | None:
    """Return an error response if the body is not a webhook call."""
    try:
        body = await asyncio.wait_for(_body(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        return PlainTextResponse("The body did not arrive in time.", 408)
    if body is None:
        return PlainTextResponse(f"The body has more than {LARGEST_BODY} bytes.", 413)
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        call = None
    if not isinstance(call, dict) or not isinstance(call.get("action"), str):
        reason = 'The body must be JSON such as {"action": "ANNOTATION_CREATED"}.'
        return PlainTextResponse(reason, 400)
    return None


async def _body(request: Request) -> bytes | None:
    """Read a body. Return None, and read no more, if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return body
