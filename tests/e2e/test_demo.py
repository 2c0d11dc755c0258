"""The demo as the README shows it, with sensors and daemon."""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from ls_pipeline.cli.demo.demo import PICTURES, REVIEWS, ROWS, SHAPES, SURVEY, TEXTS
from tests.e2e.conftest import PROGRAM

pytestmark = pytest.mark.server


@pytest.fixture
def temp_folder():
    """Return a temporary folder whose name is short enough for Dagster's sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def counts(tasks, objects=None):
    names = ("tasks", "completions", "json_files", "parquet_rows")
    return {"objects": objects or tasks, **dict.fromkeys(names, tasks)}


def left_over(folder):
    """Return the processes whose environment or command names a folder."""
    processes = subprocess.run(["/bin/ps", "axeww"], capture_output=True, text=True, check=True)
    return [
        line
        for line in processes.stdout.splitlines()
        if str(folder) in line and "ps axe" not in line
    ]


def test_demo_runs_unattended_and_leaves_nothing(environment, temp_folder):
    environment.setenv("TMPDIR", str(temp_folder))
    result = subprocess.run(
        [PROGRAM, "demo", "--once", "--json"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "connections": {
            REVIEWS: counts(TEXTS),
            SHAPES: counts(PICTURES),
            SURVEY: counts(ROWS, objects=1),
        }
    }
    assert (list(temp_folder.iterdir()), left_over(temp_folder)) == ([], [])


def test_interrupted_demo_leaves_nothing(environment, temp_folder):
    environment.setenv("TMPDIR", str(temp_folder))
    with subprocess.Popen([PROGRAM, "demo"], stderr=subprocess.PIPE, text=True) as demo:
        while "GCS (emulator): ready" not in demo.stderr.readline():
            assert demo.poll() is None
        os.kill(demo.pid, signal.SIGINT)
        demo.stderr.read()

    assert demo.returncode == 0
    assert (list(temp_folder.iterdir()), left_over(temp_folder)) == ([], [])
