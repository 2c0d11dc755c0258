"""Several processes on one ledger at the same moment."""

import contextlib
import json
import subprocess
import sys

import pytest

from ls_pipeline.settings.validation import build_connection

pytestmark = pytest.mark.slow

PROCESSES = 4

WORKER = """
import json, sys
from ls_pipeline.settings.validation import build_connection
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.ledger.lease import _take
from ls_pipeline.resources.ledger.ledger import Ledger

def make(prefix=""):
    source = {"type": "s3", "path": "b", "params": {"prefix": prefix}}
    return build_connection("c", source=source, target=None, project="Cats")

number = sys.argv[1]
for line in sys.stdin:
    url, before, work = json.loads(line)
    ledger = eval(before)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        answer = eval(work)
    except PipelineError as error:
        answer = type(error).__name__
    print(json.dumps(answer), flush=True)
    if ledger:
        ledger.close()
"""


@pytest.fixture(scope="module")
def workers():
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(PROCESSES)
        ]
        yield started
        for process in started:
            process.stdin.close()


@pytest.fixture
def at_once(workers, database_url):
    """Return a function that does some work in all processes at once, and returns their answers."""

    def send(message):
        for process in workers:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def do(work, before="Ledger(url)"):
        send([database_url, before, work])
        assert [process.stdout.readline() for process in workers] == ["ready\n"] * PROCESSES
        send("go")
        return [json.loads(process.stdout.readline()) for process in workers]

    return do


@pytest.fixture
def connection_ledger(ledger):
    source = {"type": "s3", "path": "b"}
    ledger.save(build_connection("c", source=source, target=None, project="Cats"), "test")
    return ledger.connection_ledger("c")


def test_ledger_is_made_once(at_once):
    assert at_once("Ledger(url).names()", "None") == [[]] * PROCESSES


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_file_is_tuned_by_several_at_once(at_once, tmp_path):
    for number in range(30):  # SQLite refuses about a third of them
        opened = at_once(f"Ledger('sqlite:///{tmp_path / str(number)}').names()", "None")

        assert opened == [[]] * PROCESSES


def test_same_new_connection_is_stored_once(at_once, ledger):
    numbers = at_once("ledger.save(make(), 'test')")

    assert (numbers, ledger.names()) == ([1] * PROCESSES, ["c"])


def test_changes_follow_each_other(at_once, ledger):
    numbers = at_once("ledger.save(make(number), 'test')")

    assert sorted(numbers) == list(range(1, PROCESSES + 1))


def test_of_changes_to_the_same_revision_one_is_stored(at_once, connection_ledger):
    answers = at_once("ledger.save(make(number), 'test', 1)")

    assert sorted(map(str, answers)) == ["2", *["InvalidConnectionError"] * (PROCESSES - 1)]


def test_lease_is_taken_by_one(at_once, connection_ledger):
    answers = at_once(f"_take(ledger.database, {connection_ledger.id}, 'c', '').number")

    assert sorted(map(str, answers)) == ["1", *["LeaseError"] * (PROCESSES - 1)]
