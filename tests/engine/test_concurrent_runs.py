"""Two processes that run one connection at the same time, against the real servers."""

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
from ls_pipeline.resources.ledger.tables import heartbeats, metadata
from tests.e2e.conftest import PROGRAM, Stage

pytestmark = pytest.mark.server

OBJECTS = 300

SLEEPER = """
import os, signal, sys
from ls_pipeline.engine import import_queue
from ls_pipeline.engine import object_loader
from ls_pipeline.cli.main import main
from ls_pipeline.resources.ledger import lease as ledger_lease

ledger_lease.LEASE_SECONDS = 4.0
import_queue.BATCH_ROWS = 100
take, calls = object_loader.ObjectLoader.take, 0

def sleep_at_the_250th(self, *arguments):
    global calls
    calls += 1
    if calls == 250:  # some batches are imported, the next is being read
        self.queue.wait()  # else PostgreSQL may end a transaction that sleeps
        os.kill(os.getpid(), signal.SIGSTOP)
    return take(self, *arguments)

object_loader.ObjectLoader.take = sleep_at_the_250th
main(["sync", sys.argv[1], "--json"])
"""


@pytest.fixture
def stage(live_environment, tmp_path, database_url):
    live_environment.setenv("LS_PIPELINE_DATABASE_URL", database_url)
    stage = Stage(tmp_path)
    source = stage.s3("in")
    with ThreadPoolExecutor(8) as writers:
        content_type = "application/json"
        list(writers.map(lambda sample: source.put(*sample, content_type), samples.texts(OBJECTS)))
    stage.add("reviews", samples.TEXT_CONFIG, source, None)
    return stage


@pytest.fixture
def begin():
    """Return a function that starts processes; the test's end kills them."""
    with ExitStack() as stack:

        def start(*command):
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def end(process):
    """Wait for a process; return its exit code and its report."""
    out, err = process.communicate(timeout=240)
    assert out.startswith("{"), out + err
    return process.returncode, json.loads(out)["connections"]["reviews"]


def origins(stage):
    """Return (object, row) of every task in Label Studio."""
    metas = [task.document["meta"]["ls_pipeline"] for task in stage.tasks("reviews")]
    return sorted((meta["uri"], meta["row"]) for meta in metas)


def ledger_contents(database_url):
    """Return all rows of the ledger, without those of the lease and of heartbeats."""
    ledger = Ledger(database_url)
    lease_columns = {"holder", "fence", "leased_until", "passed_at"}
    with ledger.database.engine.connect() as db:
        contents = {}
        for table in set(metadata.sorted_tables) - {heartbeats}:
            columns = [column for column in table.c if column.name not in lease_columns]
            contents[table.name] = sorted(map(str, db.execute(sa.select(*columns))))
    ledger.close()
    return contents


def test_two_simultaneous_runs_load_each_object_once(stage, begin):
    processes = [begin(PROGRAM, "sync", "reviews", "--json") for _ in range(2)]
    results = [end(process) for process in processes]
    tasks = origins(stage)

    assert [(code, report["tasks"], report.get("error")) for code, report in results] == [
        (0, OBJECTS, None)
    ] * 2
    assert len(tasks) == len(set(tasks)) == OBJECTS


def test_run_that_sleeps_past_its_lease_changes_nothing(stage, begin, database_url):
    asleep = begin(sys.executable, "-c", SLEEPER, "reviews")
    assert os.WIFSTOPPED(os.waitpid(asleep.pid, os.WUNTRACED)[1])
    loaded = len(origins(stage))
    overtaking = end(begin(PROGRAM, "sync", "reviews", "--json"))
    before = ledger_contents(database_url)
    asleep.send_signal(signal.SIGCONT)
    code, woken = end(asleep)
    tasks = origins(stage)

    assert (0 < loaded < OBJECTS, overtaking[0], overtaking[1]["tasks"]) == (True, 0, OBJECTS)
    assert (code, "was taken over by a newer run" in woken["error"]) == (1, True)
    assert ledger_contents(database_url) == before
    assert len(tasks) == len(set(tasks)) == OBJECTS
