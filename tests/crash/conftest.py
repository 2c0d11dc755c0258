"""A process to kill and how often, and proxies before servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from ls_pipeline.cli.servers import local_servers
from ls_pipeline.cli.servers import server as servers
from ls_pipeline.engine import reconcile, unread
from ls_pipeline.resources.label_studio import imports, session
from tests.crash.backup import back_up_sqlite
from tests.crash.proxy import Proxy

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
        self.child = json.loads(self.process.stdout.readline())["pid"]
        return json.loads(self.process.stdout.readline())

    def kill(self):
        """Kill the run that is under way; another thread may do that."""
        os.kill(self.child, signal.SIGKILL)

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


@pytest.fixture
def between():
    """Return a function that puts a proxy before a server."""
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
    """Wait for seconds instead of minutes."""
    monkeypatch.setattr(reconcile, "ARRIVAL_SECONDS", 1.0)
    monkeypatch.setattr(unread, "retry_delay", lambda _failures: 0.0)
    monkeypatch.setattr(imports, "IMPORT_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(session, "TIMEOUT_SECONDS", 5.0)


@pytest.fixture
def label_studio_database(label_studio_server):
    """Return the file that holds everything in Label Studio."""
    return Path(label_studio_server.environment["LABEL_STUDIO_BASE_DATA_DIR"]) / DATABASE


class SecondLabelStudio:
    """Another server, which starts from a backup of the first one's database."""

    def __init__(self, database, home, start):
        self.first, self.database, self._start = database, home / DATABASE, start
        self.url = ""

    def back_up(self):
        self.database.parent.mkdir()
        shutil.copy(self.first.with_name("token"), self.database.parent)
        back_up_sqlite(self.first, self.database)

    def start(self):
        self.url = self._start(self.database.parent).url


DATABASE = "label_studio.sqlite3"


@pytest.fixture
def second_label_studio(label_studio_database, s3_server, logs, tmp_path):
    with ExitStack() as running:

        def start(home):
            buckets = s3_server.client_environment
            server = local_servers.label_studio_server(home, logs, buckets)
            running.enter_context(servers.running([server]))
            return server

        yield SecondLabelStudio(label_studio_database, tmp_path / "second", start)
