"""The receiver of Label Studio's webhooks: it notes in the ledger whose labels to look at."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from ls_pipeline.resources.ledger.ledger import Ledger

LARGEST_BODY = 64 * 2**10
"""Bytes. Label Studio sends the name of an action."""

BODY_SECONDS = 5.0
"""For a body to come."""

HEAD_SECONDS = 5.0
"""For a request to begin: who only connects takes up another's place."""

AT_ONCE = 256
"""Connections; more are told to come later."""

HEALTH, HEALTHY = "/health", "ls_pipeline waits for webhooks."

_log = logging.getLogger(__name__)


def serve(ledger: Ledger, secret: str, host: str, port: int) -> None:
    """Receive webhooks until Ctrl-C."""
    _server(ledger, secret, host, port).run()


@contextmanager
def serving(ledger: Ledger, secret: str, host: str, port: int) -> Iterator[str]:
    """Receive webhooks beside whatever the block does; give where."""
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
    """Tell whether a receiver of ours answers there."""
    try:
        answer = httpx.get(url + HEALTH, timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.text == HEALTHY


class _Prompt(H11Protocol):
    """HTTP as uvicorn speaks it, with those who begin to speak in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEAD_SECONDS, transport.close)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # another request's head is there
            self._patience.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
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
            http=_Prompt,
            limit_concurrency=AT_ONCE,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
    )


def receiver(ledger: Ledger, secret: str) -> Starlette:
    """Make the application: ``POST /connections/<name>``, by those who show the secret."""
    waiting, writing = set[str](), asyncio.Lock()

    async def note(name: str) -> None:
        async with writing:
            waiting.discard(name)
            try:
                await asyncio.to_thread(ledger.hint, name)
            except LedgerError as error:
                _log.warning("%s", error)

    async def hear(request: Request) -> Response:
        shown = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), secret.encode()):
            return PlainTextResponse(f"{SECRET_HEADER} is not the secret.", 401)
        if refusal := await _refusal(request):
            return refusal
        name = request.path_params["name"]
        if name in waiting:  # the note that is about to be written is for this call, too
            return Response(status_code=204)
        waiting.add(name)
        # Label Studio waits for the answer, and an annotator for Label Studio: note it afterwards.
        return Response(status_code=204, background=BackgroundTask(note, name))

    async def health(_request: Request) -> Response:
        return PlainTextResponse(HEALTHY)

    return Starlette(
        routes=[
            Route("/connections/{name}", hear, methods=["POST"]),
            Route(HEALTH, health, methods=["GET"]),
        ]
    )


async def _refusal(request: Request) -> Response | None:
    """Say what is wrong with a body, if anything is."""
    try:
        body = await asyncio.wait_for(_body(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        return PlainTextResponse("The body does not come.", 408)
    if body is None:
        return PlainTextResponse(f"A body has {LARGEST_BODY} bytes at most.", 413)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("action"), str):
        return PlainTextResponse('The body is JSON, as in {"action": "ANNOTATION_CREATED"}.', 400)
    return None


async def _body(request: Request) -> bytes | None:
    """Read a body; None of one that is too large, of which no more is read."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            return None
    return body
