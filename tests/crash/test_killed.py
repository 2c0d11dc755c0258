"""A real process, killed at every step of a pass, against real servers; then run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.scene import AFTER_CHANGES, AFTER_FILLING, Scene

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


class Victim:
    """Makes passes, and dies in them when asked to."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, name, kill_at=None):
        order = {"name": name, "kill_at": kill_at, "environment": dict(os.environ)}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def victim():
    victim = Victim()
    yield victim
    victim.stop()


@pytest.fixture
def kills(request):
    """Give the number of times that each pass is killed, spread over its steps."""
    return request.config.getoption("--kills")


@pytest.mark.parametrize(
    ("prepare", "expected", "cloud", "params"),
    [
        (Scene.fill, AFTER_FILLING, "s3", {}),
        (Scene.change, AFTER_CHANGES, "s3", {"tasks_per_project": 3}),
        (Scene.fill, AFTER_FILLING, "gcs", {"tasks_per_project": 2}),
    ],
    ids=[
        "first load on S3",
        "all kinds of changes on S3, in two projects",
        "first load on GCS, into two projects",
    ],
)
def test_process_killed_at_any_step_and_run_again_ends_as_if_never_killed(
    world, victim, kills, prepare, expected, cloud, params
):
    def make_pass(name):
        return victim.run(name)["error"]

    undisturbed = Scene(make_pass, cloud, **params)
    prepare(undisturbed)
    told = victim.run(undisturbed.name)
    assert told["error"] == ""
    assert undisturbed.outcome() == expected
    assert told["steps"] > 50
    for at in range(1, told["steps"] + 1, max(1, told["steps"] // kills)):
        scene = Scene(make_pass, cloud, **params)
        prepare(scene)
        killed = victim.run(scene.name, at)["killed"]
        assert scene.run() == ""
        assert scene.run() == ""
        assert scene.outcome() == expected, f"killed at step {at} ({killed=})"
