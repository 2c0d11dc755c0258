"""A proxy on loopback that spoils chosen answers, as bad networks and servers do."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards to ``upstream``; `spoiling` chooses the requests that go wrong, and how."""

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.spoil, self.left, self.spoiled = None, {}, Counter()
        self.skipped = 0
        self.late, self.held = [], []
        self.log = []
        """(when it came, when it was answered, ``METHOD path``) of each request."""
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def spoiling(self, patterns, spoil, times=1, skip=0):
        """Let ``spoil(handler, forward)`` answer this many requests that match each pattern.

        The first ``skip`` that match any are answered well.
        """
        self.spoil, self.spoiled, self.skipped = spoil, Counter(), skip
        self.left = {re.compile(pattern): times for pattern in patterns}
        try:
            yield
        finally:
            self.left = {}

    def spoil_of(self, request):
        """Return what spoils a request, if anything does."""
        with self._lock:
            for pattern, left in self.left.items():
                if left > 0 and pattern.search(request):
                    if self.skipped:
                        self.skipped -= 1
                        return None
                    self.left[pattern] -= 1
                    self.spoiled[pattern.pattern] += 1
                    return self.spoil
        return None

    def deliver_late(self):
        """Wait until the delayed requests have arrived."""
        while self.late:
            self.late.pop().join()

    def deliver_held(self):
        """Forward the requests that were held; return the answers' statuses."""
        held, self.held = self.held, []
        return [forward()[0] for forward in held]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        came = time.monotonic()

        def forward():
            return _forwarded(self.server.upstream, self.command, self.path, self.headers, body)

        spoil = self.server.spoil_of(f"{self.command} {self.path}")
        if spoil is None:
            answer = forward()
            self.server.log.append((came, time.monotonic(), f"{self.command} {self.path}"))
            self.answer(*answer)
        else:
            spoil(self, forward)
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = _any  # noqa: N815

    def answer(self, status, headers, body, cut=None):
        """Send an answer; with ``cut``, only that many bytes of its body."""
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
            self.wfile.flush()

    def reset(self):
        """End the connection as a crash does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.rfile = self.wfile = open("/dev/null", "r+b", buffering=0)  # noqa: SIM115, PTH123

    def log_message(self, *_):
        """Log nothing."""


def _forwarded(upstream, method, path, headers, body):
    link = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=60)
    # The Host stays as the client signed it.
    passed = {name: value for name, value in headers.items() if name.lower() not in HOP}
    link.request(method, path, body=body, headers=passed)
    answer = link.getresponse()
    received = answer.status, answer.getheaders(), answer.read()
    link.close()
    return received


# -- what can go wrong ------------------------------------------------------------------------


def reply_lost(handler, forward):
    forward()
    handler.reset()


def bad_gateway_after(handler, forward):
    forward()
    handler.answer(502, [], b"<html>Bad Gateway</html>")


def bad_gateway_before(handler, _forward):
    handler.answer(502, [], b"<html>Bad Gateway</html>")


def reset_in_mid_body(handler, forward):
    status, headers, body = forward()
    handler.answer(status, headers, body, cut=len(body) // 2)
    handler.reset()


def too_many_requests(handler, _forward):
    handler.answer(429, [("Retry-After", "1")], b'{"detail": "Request was throttled."}')


def committed_late(handler, forward):
    """Never answer, and forward the request after the client has stopped waiting."""

    def later():
        time.sleep(3)
        forward()

    thread = threading.Thread(target=later)
    thread.start()
    handler.server.late.append(thread)
    time.sleep(1.5)
    handler.reset()


OWN_ERROR = {
    "id": "0b5a9b1e-6d0f-4e0c-9a57-5a4c1f0a7b11",
    "status_code": 500,
    "version": "1.23.2",
    "detail": "database is locked",
    "exc_info": None,
}
"""How Label Studio reports a failure of its own code (``core/utils/common.py``)."""


def own_error_after(handler, forward):
    """Fail after the effect, as counters, webhooks and summaries do."""
    forward()
    own_error_before(handler, forward)


def own_error_before(handler, _forward):
    handler.answer(500, [("Content-Type", "application/json")], json.dumps(OWN_ERROR).encode())


def sender_killed(victim, lands):
    """Kill the process that sends a request, which lands ``at once``, ``late`` or ``never``."""

    def spoil(handler, forward):
        if lands == "at once":
            forward()
        elif lands == "late":
            handler.server.held.append(forward)
        victim.kill()
        handler.reset()

    return spoil


def s3_error(status, code):
    body = f"<Error><Code>{code}</Code><Message>Said so.</Message></Error>".encode()

    def spoil(handler, _forward):
        handler.answer(status, [("Content-Type", "application/xml")], body)

    spoil.__name__ = f"{status}_{code}"
    return spoil


def gcs_error(status):
    body = json.dumps({"error": {"code": status, "message": "Said so."}}).encode()

    def spoil(handler, _forward):
        handler.answer(status, [("Content-Type", "application/json")], body)

    spoil.__name__ = str(status)
    return spoil


def web_page(handler, _forward):
    handler.answer(200, [("Content-Type", "text/html")], b"<html>Please sign in.</html>")


def cut_short(handler, forward):
    status, headers, body = forward()
    handler.answer(status, headers, body, cut=len(body) // 2)
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
