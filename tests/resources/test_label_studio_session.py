"""Requests to Label Studio: their tokens, and when they are repeated."""

import json
import time

import httpx
import jwt
import pytest

from ls_pipeline.resources.label_studio import session as sessions
from ls_pipeline.resources.label_studio.session import (
    Session,
    TokenRefreshError,
    TokenRefusedError,
)

URL = "http://labels/studio"


def token(seconds, **claims):
    return jwt.encode({"exp": int(time.time() + seconds), **claims}, "k" * 32)


class Server:
    """Answers with the next of some statuses, and the last one for ever."""

    def __init__(self, *statuses, lifetime=300, **headers):
        self.statuses, self.lifetime, self.headers = list(statuses) or [200], lifetime, headers
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        if request.url.path == "/studio/api/token/refresh/":
            access = token(self.lifetime, number=len(self.requests))
            return httpx.Response(200, json={"access": access})
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(status, headers=self.headers)

    @property
    def paths(self):
        return [request.url.path.removeprefix("/studio/api/") for request in self.requests]

    @property
    def logins(self):
        return [request.headers.get("authorization") for request in self.requests]


def session(server, key="legacy"):
    return Session(URL, key, httpx.Client(transport=httpx.MockTransport(server)))


@pytest.fixture
def pauses(monkeypatch):
    """Return the pauses that were asked for; none is made."""
    asked = []
    monkeypatch.setattr(sessions.time, "sleep", asked.append)
    return asked


@pytest.mark.parametrize("key", ["0123abc", "a.b.c", "a.W10=.c"])
def test_legacy_token_is_sent_as_it_is(key):
    server = Server()
    session(server, key).request("api/version", "GET")

    assert server.logins == [f"Token {key}"]


def test_personal_access_token_is_exchanged_once():
    server, key = Server(), token(10**6)
    opened = session(server, key)
    for _ in range(2):
        opened.request("api/version", "GET")

    assert server.paths == ["token/refresh/", "version", "version"]
    assert json.loads(server.requests[0].content) == {"refresh": key}
    assert server.logins[1].startswith("Bearer ")
    assert key not in server.logins[1]


def test_access_token_is_renewed_before_it_ends():
    server = Server(lifetime=20)
    opened = session(server, token(10**6))
    for _ in range(2):
        opened.request("api/version", "GET")

    assert server.paths == ["token/refresh/", "version"] * 2
    assert server.logins[1] != server.logins[3]


@pytest.mark.parametrize("key", [token(-10), jwt.encode({"user": 1}, "k" * 32)])
def test_personal_access_token_that_has_ended_is_refused(key):
    with pytest.raises(TokenRefusedError):
        session(Server(), key)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json={"detail": "Token is blacklisted"}), TokenRefusedError),
        (httpx.Response(200, json=[]), TokenRefusedError),
        (httpx.Response(200, json={"access": "à\n"}), TokenRefusedError),
        (httpx.Response(200, content=b"[" * 100_000), TokenRefreshError),
        (httpx.Response(404, text="<html>"), TokenRefreshError),
        (httpx.Response(502, text="<html>"), TokenRefreshError),
    ],
)
def test_failed_refresh_says_whose_fault_it_is(answer, error):
    with pytest.raises(error):
        session(lambda _: answer, token(10**6)).request("api/version", "GET")


@pytest.mark.parametrize("status", [0, 408, 409, 429, 500, 503])
def test_get_request_is_repeated_twice(pauses, status):
    server = Server(status, status, 200)

    assert session(server).request("api/version", "GET").status_code == 200
    assert pauses == [1, 2]


def test_third_failure_is_the_answer(pauses):
    assert session(Server(503)).request("api/version", "GET").status_code == 503
    with pytest.raises(httpx.ConnectError):
        session(Server(0)).request("api/version", "GET")
    assert pauses == [1, 2] * 2


@pytest.mark.parametrize(("header", "pause"), [("7", 7), ("999", 60), ("soon", 1)])
def test_pause_is_as_long_as_the_server_asks_for(pauses, header, pause):
    session(Server(429, 200, **{"retry-after": header})).request("api/version", "GET")

    assert pauses == [pause]


@pytest.mark.parametrize(("method", "options"), [("POST", {}), ("GET", {"retries": 0})])
def test_other_requests_are_sent_once(pauses, method, options):
    server = Server(503)

    assert session(server).request("api/tasks/1/", method, **options).status_code == 503
    assert len(server.requests) == 1


def test_refused_request_is_not_repeated(pauses):
    assert session(Server(404)).request("api/version", "GET").status_code == 404
    assert pauses == []
