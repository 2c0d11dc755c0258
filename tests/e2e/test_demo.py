"""The demo, as the README shows it: sensors, daemon and all."""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from ls_pipeline.cli.demo.demo import PICTURES, REVIEWS, SHAPES, TEXTS
from tests.e2e.conftest import PROGRAM

pytestmark = pytest.mark.server


@pytest.fixture
def place():
    """A temporary folder with a name short enough for Dagster's sockets."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def counted(number):
    names = ("objects", "tasks", "completions", "json_files", "parquet_rows")
    return dict.fromkeys(names, number)


def left_over(place):
    """List the processes whose environment or command names a folder."""
    found = subprocess.run(["/bin/ps", "axeww"], capture_output=True, text=True, check=True)
    return [
        line for line in found.stdout.splitlines() if str(place) in line and "ps axe" not in line
    ]


def test_demo_runs_the_whole_circle_unattended_and_leaves_nothing(environment, place):
    environment.setenv("TMPDIR", str(place))
    done = subprocess.run(
        [PROGRAM, "demo", "--once", "--json"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "connections": {REVIEWS: counted(TEXTS), SHAPES: counted(PICTURES)}
    }
    assert (list(place.iterdir()), left_over(place)) == ([], [])


def test_demo_that_is_interrupted_leaves_nothing(environment, place):
    environment.setenv("TMPDIR", str(place))
    with subprocess.Popen([PROGRAM, "demo"], stderr=subprocess.PIPE, text=True) as demo:
        while "GCS (emulator): ready" not in demo.stderr.readline():
            assert demo.poll() is None
        os.kill(demo.pid, signal.SIGINT)
        demo.stderr.read()

    assert demo.returncode == 0
    assert (list(place.iterdir()), left_over(place)) == ([], [])
