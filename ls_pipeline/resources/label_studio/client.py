"""An HTTP client that reads no answer without an end: neither in bytes nor in time."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import httpx

from ls_pipeline.domain.errors import AnswerTooLargeError

LARGEST_ANSWER = 256 * 2**20
"""Bytes of an answer, uncompressed."""

MOST_BYTES = "x-ls-pipeline-most-bytes"
"""A header with a smaller bound for one answer. It is not sent."""

ANSWER_SECONDS = 900.0
"""How long an answer may take from the request to its last byte."""


class BoundedClient(httpx.Client):
    """A client whose answers are read while they keep within the bounds.

    Raises ``AnswerTooLargeError``, and ``httpx.ReadTimeout`` for an answer that does not end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(event_hooks={"response": [_drop_body_of_redirect]}, **options)

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
