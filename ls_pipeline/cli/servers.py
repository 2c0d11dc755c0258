"""The real servers that demo and tests run on: free loopback ports, stopped by their pid."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HOST = "127.0.0.1"
REGION = "us-east-1"

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""All that a server gets of our environment: Label Studio reads bare names like USERNAME."""


class ServerFailedError(PipelineError):
    """A server did not come up."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        tail = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
        lines = "\n".join(f"    {line}" for line in tail)
        super().__init__(f"{name} {what}; its log is {log}, and ends:\n{lines}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server's address
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500  # noqa: PLR2004
    except OSError:
        return False


@dataclass
class Server:
    """A server process: `start` returns when it answers, `stop` when nothing is left of it.

    ``command`` holds ``{port}`` where the port goes, a free one from the begin;
    ``environment`` is what the process gets beyond `INHERITED`, ``clients`` what a client of
    it needs, with ``{url}`` for the address.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=dict)
    is_up: Callable[[str], bool] = _answers
    patience: float = 60.0
    port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def client_environment(self) -> dict[str, str]:
        """Give the variables, under their standard names, that lead a client here."""
        return {name: value.format(url=self.url) for name, value in self.clients.items()}

    def start(self) -> None:
        """Start it and wait until it answers. Raises ``ServerFailedError``."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [part.format(port=self.port) for part in self.command]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ls_pipeline.cli.guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited, **self.environment},
                start_new_session=True,  # Ctrl-C is ours to handle, not the server's
            )
        self._wait(self._process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.patience
        while not self.is_up(self.url):
            if process.poll() is not None:
                raise ServerFailedError(self.name, f"ended with {process.returncode}", self.log)
            if time.monotonic() > deadline:
                self.stop()
                raise ServerFailedError(
                    self.name, f"does not answer after {self.patience:.0f} s", self.log
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End the process and all its children; fine when it is not running."""
        process, self._process = self._process, None
        if process and process.stdin:
            process.stdin.close()
            process.wait()


def s3_server(logs: Path) -> Server:
    """Give moto's S3 server, over HTTP, in memory."""
    _require("moto", "flask")
    return Server(
        "S3 (moto)",
        [sys.executable, "-m", "moto.server", "-H", HOST, "-p", "{port}"],
        logs / "s3.log",
        clients={
            "AWS_ENDPOINT_URL": "{url}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": REGION,
        },
    )


def gcs_server(logs: Path) -> Server:
    """Give the GCS emulator, in memory."""
    _require("gcp_storage_emulator")
    emulator = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory"]
    return Server(
        "GCS (emulator)",
        [*emulator, "--host", HOST, "--port", "{port}"],
        logs / "gcs.log",
        clients={"STORAGE_EMULATOR_HOST": "{url}", "GOOGLE_CLOUD_PROJECT": "demo"},
        is_up=lambda url: _answers(f"{url}/storage/v1/b?project=demo"),
    )


USERNAME = "demo@example.com"


def label_studio_server(
    home: Path, logs: Path, buckets: Mapping[str, str], password: str = ""
) -> Server:
    """Give Label Studio on its own SQLite below ``home``.

    ``buckets`` is the environment that leads its storage connections to the bucket servers.
    Its first start takes up to a minute: it makes its database.
    """
    _require("label_studio")
    home.mkdir(parents=True, exist_ok=True)
    token = _kept_secret(home / "token", "")
    script = Path(sys.executable).with_name("label-studio")
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_USERNAME": USERNAME,
        "LABEL_STUDIO_PASSWORD": _kept_secret(home / "password", password),
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "0",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "0",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        # The operator's own endpoint passes Label Studio's guard against inner addresses.
        **({"S3_ENDPOINT": buckets["AWS_ENDPOINT_URL"]} if "AWS_ENDPOINT_URL" in buckets else {}),
        **buckets,
    }
    return Server(
        "Label Studio",
        [str(script), "start", "--no-browser", "--internal-host", HOST, "--port", "{port}"],
        logs / "label-studio.log",
        environment=environment,
        clients={"LABEL_STUDIO_URL": "{url}", "LABEL_STUDIO_API_KEY": token},
        is_up=lambda url: _answers(f"{url}/health"),
        patience=300,
    )


def dagster_server(logs: Path, environment: Mapping[str, str]) -> Server:
    """Give Dagster: webserver, daemon and our definitions, with this environment."""
    module = ["-m", "ls_pipeline.definitions"]
    return Server(
        "Dagster",
        [sys.executable, "-m", "dagster", "dev", *module, "-h", HOST, "-p", "{port}"],
        logs / "dagster.log",
        environment={"DO_NOT_TRACK": "1", "DAGSTER_DISABLE_TELEMETRY": "1", **environment},
        is_up=_daemons_are_up,
        patience=180,
    )


@contextmanager
def running(
    servers: Sequence[Server], tell: Callable[[Server, str], None] = lambda _server, _state: None
) -> Iterator[None]:
    """Start servers side by side, and stop them all on the way out, however that comes.

    ``tell`` hears ``starting``, ``ready`` and ``stopped`` of each.
    """

    def start(server: Server) -> None:
        tell(server, "starting")
        server.start()
        tell(server, "ready")

    def stop(server: Server) -> None:
        server.stop()
        tell(server, "stopped")

    with ThreadPoolExecutor(len(servers)) as workers:
        try:
            list(workers.map(start, servers))
            yield
        finally:
            # A start that is interrupted ends when its server does: so stop first, then wait.
            for server in servers:
                stop(server)


def _kept_secret(file: Path, wanted: str) -> str:
    """Give the secret in a file, made at the first call: a second start finds the same."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(wanted or secrets.token_hex(16))
    return file.read_text()


def _require(*modules: str) -> None:
    if not all(map(find_spec, modules)):
        raise PipelineError(
            "The servers that come with the demo are not installed; run "
            "pip install 'ls-pipeline[demo]'."
        )


def _daemons_are_up(url: str) -> bool:
    """Tell whether the webserver answers and every daemon it needs is healthy."""
    query = "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
    request = urllib.request.Request(  # noqa: S310 - our own server's address
        f"{url}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            health = json.load(answer)["data"]["instance"]["daemonHealth"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(one["healthy"] for one in health["allDaemonStatuses"] if one["required"])
