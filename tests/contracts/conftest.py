"""A server whose answers a test sets, such as those of a faulty server."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from dataclasses import dataclass, field

import pytest


@dataclass
class Answer:
    """The answer to every request.

    ``announced`` is the length that the headers promise; by default the body's. ``pause`` is the
    number of seconds before each byte, of the headers, too; by default, all comes at once.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    pause: float = 0.0


def s3_refusal(code, status, **headers):
    body = f"<Error><Code>{code}</Code><Message>Said so.</Message></Error>"
    return Answer(
        body.encode(), status, {name.replace("_", "-"): headers[name] for name in headers}
    )


def gcs_refusal(status, message):
    body = {"error": {"code": status, "message": message}}
    return Answer(json.dumps(body).encode(), status, {"content-type": "application/json"})


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers ``answer``, or what ``answer`` returns for a request; keeps all ``requests``."""

    answer = Answer()

    def __init__(self, *address):
        super().__init__(*address)
        self.requests = []

    @property
    def url(self):
        return f"http://{self.server_address[0]}:{self.server_port}"


class _Slow:
    """Writes byte by byte, until its reader is gone."""

    def __init__(self, file, pause):
        self._file, self._pause = file, pause
        self.flush, self.close, self.closed = file.flush, file.close, False

    def write(self, data):
        with contextlib.suppress(OSError):
            for byte in data:
                time.sleep(self._pause)
                self._file.write(bytes([byte]))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # else botocore waits a second for "100 Continue"

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.server.requests.append(request)
        answer = self.server.answer
        answer = answer(request) if callable(answer) else answer
        if answer.pause:
            self.wfile = _Slow(self.wfile, answer.pause)
        length = len(answer.body) if answer.announced is None else answer.announced
        self.send_response(answer.status)
        for name, value in {**answer.headers, "content-length": length}.items():
            self.send_header(name, str(value))
        self.send_header("connection", "close")  # a client must not use it again
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 - the standard library's names
    do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_args):
        """Log nothing."""


@contextlib.contextmanager
def serving(host="127.0.0.1"):
    """Run a server whose ``answer`` a test sets."""
    with FakeServer((host, 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fake_server():
    """Run a server whose ``answer`` a test sets."""
    with serving() as server:
        yield server


@pytest.fixture
def sts():
    """Run a second fake server, for STS."""
    with serving() as server:
        yield server
