"""A process to kill, and how often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Victim:
    """Runs connections, and dies in a run if asked to."""

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
    """Return how often each run is killed, spread over its steps."""
    return request.config.getoption("--kills")
