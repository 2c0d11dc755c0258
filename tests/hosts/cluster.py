"""A deployment over several hosts: what `deploy/celery` says, on real servers."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.settings.validation import build_connection
from tests.hosts.host import Host

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
WORKERS = yaml.safe_load((DEPLOY / "celery" / "compose.yaml").read_text())["services"]
PATIENCE = 240.0
numbers = itertools.count()


def wait_for(probe, pause=0.2):
    """Return the first true result of a probe."""
    deadline = time.monotonic() + PATIENCE
    while not (result := probe()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s"
        time.sleep(pause)
    return result


def command(service):
    """Return a service's command from the compose files, with this machine's values."""
    program, *words = shlex.split(service["command"])
    here = {
        "0.0.0.0": HOST,  # noqa: S104 - in its place
        "4000": "{port}",
        "workspace.yaml": str(DEPLOY / "workspace.yaml"),
        "ls_pipeline.definitions": "tests.hosts.quick",
    }
    return [str(Path(sys.executable).with_name(program)), *(here.get(word, word) for word in words)]


class Cluster:
    """The services, and the hosts that are alive."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment
        self.hosts = {}

    def code_server(self):
        code = self._service("code")
        _cmd, program, *words = SERVICES["code"]["healthcheck"]["test"]
        words = [str(code.port) if word == "4000" else word for word in words]
        ask = [str(Path(sys.executable).with_name(program)), *words]
        code.is_up = lambda _: subprocess.run(ask, capture_output=True, check=False).returncode == 0
        return code

    def daemon(self, code):
        daemon = self._service("daemon")
        address = {"LS_PIPELINE_CODE_HOST": HOST, "LS_PIPELINE_CODE_PORT": str(code.port)}
        daemon.environment = {**daemon.environment, **address}
        return daemon

    def _service(self, name):
        """Return a service that runs outside of the hosts, with a home of its own."""
        home = self.folder / name
        home.mkdir()
        shutil.copy(DEPLOY / "celery" / "dagster.yaml", home)
        return Server(
            name,
            command(SERVICES[name]),
            self.folder / f"{name}.log",
            environment={**self.environment, "DAGSTER_HOME": str(home)},
            is_up=lambda _: True,
            patience=180,
        )

    @contextmanager
    def running_hosts(self, count):
        try:
            for _ in range(count):
                self.add_host()
            yield
        finally:
            for host in self.hosts.values():
                host.kill()

    def add_host(self):
        name = f"host-{next(numbers)}"
        host = Host(name, self.folder / "hosts", [DEPLOY / "celery" / "dagster.yaml"])
        words = command(WORKERS["worker"])
        words[words.index("--concurrency") + 1] = "1"
        host.start(words, {**self.environment, "PATH": os.environ["PATH"]})
        self.hosts[name] = host

    def await_hosts(self):
        wait_for(lambda: all(host.says(" ready.") for host in self.hosts.values()))

    def sleep(self):
        """Let all hosts sleep, so that their work waits."""
        for host in self.hosts.values():
            host.signal(signal.SIGSTOP)
        time.sleep(1.5)  # Redis may have promised the next message to one, for a second

    def wake(self):
        """Wake the hosts that a test put to sleep."""
        for host in self.hosts.values():
            host.signal(signal.SIGCONT)

    def kill(self, host):
        del self.hosts[host.name]
        host.kill()


class Load:
    """Connections with objects in their buckets, for the hosts to load."""

    def __init__(self, cluster, connections, objects):
        import boto3

        self.cluster, self.objects = cluster, objects
        self.ledger = Ledger(cluster.environment["LS_PIPELINE_DATABASE_URL"])
        number = f"{os.getpid()}-{next(numbers)}"
        self.names = [f"hosts-{number}-{index}" for index in range(connections)]
        client, texts = boto3.client("s3"), samples.texts(objects)
        with ThreadPoolExecutor(8) as writers:
            for name in self.names:
                client.create_bucket(Bucket=name)
                bucket = S3Buckets().open(name)
                list(writers.map(lambda text, b=bucket: b.put(*text, "application/json"), texts))
        for name in self.names:
            source = {"type": "s3", "path": name}
            connection = build_connection(
                name,
                source=source,
                target=None,
                project=name,
                label_config=samples.TEXT_CONFIG,
            )
            self.ledger.save(connection, "test")
        self.ledgers = [self.ledger.connection_ledger(name) for name in self.names]

    def catch_in_mid_run(self):
        """Stop a host that has loaded a part of a connection.

        Return the host, the connection's ledger, and the holder of its lease.
        """
        return wait_for(self._caught, pause=0.01)

    def _caught(self):
        for ledger in self.ledgers:
            holder = ledger.held_by()
            if holder and self._is_in_part(ledger):
                (host,) = (host for host in self.cluster.hosts.values() if host.holds(holder))
                host.signal(signal.SIGSTOP)
                if ledger.held_by() == holder and self._is_in_part(ledger):
                    return host, ledger, holder
                host.signal(signal.SIGCONT)
        return None

    def _is_in_part(self, ledger):
        return 0 < ledger.objects.count_tasks() < self.objects

    def await_end(self):
        """Wait until the ledger has everything, and no run holds a connection."""
        wait_for(lambda: all(map(self.is_done, self.ledgers)))

    def is_done(self, ledger):
        return ledger.objects.count_tasks() == self.objects and not ledger.held_by()

    def origins(self):
        """Return (connection, object, row) of every task in Label Studio, in order."""
        app = LabelStudio()
        projects = [
            project for ledger in self.ledgers for project in ledger.projects.ids().values()
        ]
        return sorted(
            (origin.connection, origin.uri, origin.row)
            for project in projects
            for _, origin in app.task_origins_above(project, 0)
        )

    def expected(self):
        keys = [key for key, _ in samples.texts(self.objects)]
        return sorted((name, f"s3://{name}/{key}", 0) for name in self.names for key in keys)
