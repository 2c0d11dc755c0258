"""Servers that fail in ways that leave their effect unknown: nothing is lost or doubled."""

from __future__ import annotations

import os
import threading

import pytest

from ls_pipeline.assets import settling
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources import label_studio
from tests.crash import proxy as bad
from tests.crash.proxy import Proxy
from tests.crash.scene import AFTER_CHANGES, Scene
from tests.crash.victim import one_pass

pytestmark = pytest.mark.server

ROUNDS = 6


@pytest.fixture
def between():
    """Give a function that puts a proxy before a server."""
    running = []

    def start(upstream):
        server = Proxy(upstream)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.deliver_late()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def impatient(monkeypatch):
    """Wait for seconds where people wait for minutes."""
    monkeypatch.setattr(settling, "PATIENCE", 1.0)
    monkeypatch.setattr(label_studio, "IMPORT_TIMEOUT", 1.0)
    monkeypatch.setattr(label_studio, "TIMEOUT", 5.0)


def make_pass(name):
    try:
        one_pass(name)
    except PipelineError as error:
        return str(error)
    return ""


def rounds(scene):
    """Make passes until one goes well; give what the others said."""
    said = []
    while error := scene.run():
        said.append(error)
        assert len(said) < ROUNDS, said
    return said


CALLS = {
    "import": r"POST .*/import\?",
    "update": r"PATCH /api/tasks/",
    "delete": r"DELETE /api/tasks/",
    "list": r"GET /api/tasks/\?",
}
SPOILS = [
    bad.reply_lost,
    bad.bad_gateway_after,
    bad.bad_gateway_before,
    bad.reset_in_mid_body,
    bad.too_many_requests,
    bad.committed_late,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_label_studio_that_fails_at_any_call_loses_and_doubles_nothing(
    world, between, impatient, spoil
):
    server = between(os.environ["LABEL_STUDIO_URL"])
    for call, pattern in CALLS.items():
        scene = Scene(make_pass, "s3")
        scene.change()
        with world.context() as through:
            through.setenv("LABEL_STUDIO_URL", server.url)
            with server.spoiling(pattern, spoil):
                rounds(scene)
                assert server.spoiled == 1, call
            server.deliver_late()
            rounds(scene)
        assert scene.outcome() == AFTER_CHANGES, call


S3_CALLS = {
    "list": r"GET /[^/]*-in\?list-type",
    "read": r"GET /[^/]*-in/",
    "write": r"PUT /[^/]*-out/",
}
S3_SPOILS = [
    bad.s3_error(503, "SlowDown"),
    bad.s3_error(200, "InternalError"),
    bad.s3_error(500, "InternalError"),
    bad.cut_short,
    bad.reply_lost,
    bad.bad_gateway_after,
]


@pytest.mark.parametrize("spoil", S3_SPOILS, ids=lambda spoil: spoil.__name__)
def test_bucket_that_fails_at_any_call_loses_and_doubles_nothing(world, between, impatient, spoil):
    server = between(os.environ["AWS_ENDPOINT_URL"])
    for call, pattern in S3_CALLS.items():
        scene = Scene(make_pass, "s3")
        scene.change()
        with world.context() as through:
            through.setenv("AWS_ENDPOINT_URL", server.url)
            with server.spoiling(pattern, spoil, times=8):
                rounds(scene)
                assert server.spoiled >= 1, call
            rounds(scene)
        assert scene.outcome() == AFTER_CHANGES, call
