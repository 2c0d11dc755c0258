"""Two processes on one connection at the same moment, against the real servers."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from ls_pipeline.cli.demo import samples
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.tables import metadata
from tests.e2e.conftest import PROGRAM, Stage

pytestmark = pytest.mark.server

OBJECTS = 300

SLEEPER = """
import os, signal, sys
from ls_pipeline.engine import import_queue
from ls_pipeline.engine import load
from ls_pipeline.cli.main import main
from ls_pipeline.resources.ledger import lease as ledger_lease

ledger_lease.LEASE_SECONDS = 4.0
import_queue.BATCH_ROWS = 100
take, calls = load._Loader._take, 0

def sleep_at_the_250th(self, *which):
    global calls
    calls += 1
    if calls == 250:  # some batches are in, the next is being read
        self.importing.wait()  # or PostgreSQL may throw it out of a transaction meanwhile
        os.kill(os.getpid(), signal.SIGSTOP)
    return take(self, *which)

load._Loader._take = sleep_at_the_250th
main(["sync", sys.argv[1], "--json"])
"""


@pytest.fixture
def stage(world, tmp_path, database_url):
    world.setenv("LS_PIPELINE_DATABASE_URL", database_url)
    stage = Stage(tmp_path)
    source = stage.s3("in")
    with ThreadPoolExecutor(8) as writers:
        body = "application/json"
        list(writers.map(lambda one: source.put(*one, body), samples.texts(OBJECTS)))
    stage.add("reviews", samples.TEXT_CONFIG, source, None)
    return stage


@pytest.fixture
def begin():
    """Start processes, of which none is left afterwards."""
    with ExitStack() as stack:

        def start(*command):
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def end(process):
    """Wait for a process; give its exit code and what it reports."""
    out, err = process.communicate(timeout=240)
    assert out.startswith("{"), out + err
    return process.returncode, json.loads(out)["connections"]["reviews"]


def origins(stage):
    """List (object, row) of every task in Label Studio."""
    metas = [task.document["meta"]["ls_pipeline"] for task in stage.tasks("reviews")]
    return sorted((meta["uri"], meta["row"]) for meta in metas)


def everything(database_url):
    """Give all that the ledger knows, but for who holds what."""
    ledger = Ledger(database_url)
    passing = {"holder", "fence", "leased_until", "passed_at"}
    with ledger.database.engine.connect() as db:
        found = {
            table.name: sorted(
                map(str, db.execute(sa.select(*(c for c in table.c if c.name not in passing))))
            )
            for table in metadata.sorted_tables
        }
    ledger.close()
    return found


def test_two_passes_that_begin_together_load_each_object_once(stage, begin):
    both = [begin(PROGRAM, "sync", "reviews", "--json") for _ in range(2)]
    ends = [end(one) for one in both]
    once = origins(stage)

    assert [(code, report["tasks"], report.get("error")) for code, report in ends] == [
        (0, OBJECTS, None)
    ] * 2
    assert len(once) == len(set(once)) == OBJECTS


def test_pass_that_sleeps_past_its_lease_is_overtaken_and_changes_nothing(
    stage, begin, database_url
):
    asleep = begin(sys.executable, "-c", SLEEPER, "reviews")
    assert os.WIFSTOPPED(os.waitpid(asleep.pid, os.WUNTRACED)[1])
    loaded = len(origins(stage))
    overtaking = end(begin(PROGRAM, "sync", "reviews", "--json"))
    before = everything(database_url)
    asleep.send_signal(signal.SIGCONT)
    code, woken = end(asleep)
    once = origins(stage)

    assert (0 < loaded < OBJECTS, overtaking[0], overtaking[1]["tasks"]) == (True, 0, OBJECTS)
    assert (code, "was taken over by a newer run" in woken["error"]) == (1, True)
    assert everything(database_url) == before
    assert len(once) == len(set(once)) == OBJECTS
