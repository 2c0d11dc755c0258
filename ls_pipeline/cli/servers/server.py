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
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HOST = "127.0.0.1"
WEBHOOKS_HOST = "127.76.83.1"
"""Another loopback address, for the receiver of webhooks alone: Label Studio may call this one."""
REGION = "us-east-1"

PORTS = range(20_000, 32_768)
"""Below those that Linux and macOS give to outgoing connections: a port free now stays free."""

PAUSE = 0.2
"""Seconds between looks at a server that is starting."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""All that a server gets of our environment: Label Studio reads bare names like USERNAME."""


LARGEST_LOG = 20 * 2**20
"""Bytes of a server's log that it goes on with when it is started; a larger one is put aside."""


class ServerFailedError(PipelineError):
    """A server did not come up."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        self.name = name
        self.log = log
        tail = _end_of(log).decode(errors="replace").splitlines()[-15:] if log.exists() else []
        lines = "\n".join(f"    {line}" for line in tail)
        super().__init__(f"{name} {what}; its log is {log}, and ends:\n{lines}")


def _end_of(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2**16))
        return file.read()


def _free_port() -> int:
    """Give a port that nobody listens on; it may be minutes until its server does."""
    while not _is_free(port := secrets.choice(PORTS)):
        pass
    return port


def chosen_port(wanted: int | None, usual: int, host: str = HOST) -> int:
    """Give the port that was asked for, else the usual one or, where it is taken, a free one.

    Raises ``PipelineError`` when the one that was asked for is taken, or the host is none.
    """
    if wanted is None:
        return usual if _is_free(usual, host) else _free_port()
    if not is_address(host):
        raise PipelineError(f"{host} is no address of this machine; choose another.")
    if not _is_free(wanted, host):
        raise PipelineError(f"Port {wanted} is taken; choose another, or leave it out.")
    return wanted


def is_address(host: str) -> bool:
    """Tell whether a server can listen there; Linux has many loopback addresses, others one."""
    return _is_free(0, host)


def _is_free(port: int, host: str = HOST) -> bool:
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    with socket.socket(family) as probe:
        # As the servers do: connections that an earlier server closed don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to loopback


def _answers(server: Server) -> bool:
    try:
        with _OPENER.open(server.url + server.health, timeout=5):
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
    it needs, with ``{url}`` for the address; ``health`` is the path that answers once it is up.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=dict)
    health: str = "/"
    is_up: Callable[[Server], bool] = _answers
    patience: float = 60.0
    port: int = field(default_factory=_free_port)
    launched: float = field(default=0.0, init=False)
    _deadline: float = field(default=0.0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def client_environment(self) -> dict[str, str]:
        """Give the variables, under their standard names, that lead a client here."""
        return {name: value.format(url=self.url) for name, value in self.clients.items()}

    def start(self) -> None:
        """Start it and wait until it answers. Raises ``ServerFailedError``."""
        self.launch()
        while not self.is_ready():
            time.sleep(PAUSE)

    def launch(self) -> None:
        """Start it without waiting. Raises ``ServerFailedError`` when its port is taken."""
        if not _is_free(self.port):
            # Whoever has it would answer in its place.
            raise ServerFailedError(
                self.name, f"wants port {self.port}, which another process took", self.log
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        command = [part.format(port=self.port) for part in self.command]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.launched = time.time()
        self._deadline = time.monotonic() + self.patience
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ls_pipeline.cli.servers.process_guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Unbuffered, so that the log of a server that hangs says where.
                env={**inherited, "PYTHONUNBUFFERED": "1", **self.environment},
                start_new_session=True,  # Ctrl-C is ours to handle, not the server's
            )

    def is_ready(self) -> bool:
        """Tell whether it answers. Raises ``ServerFailedError`` when it never will."""
        self.check()
        if self.is_up(self):
            return True
        if time.monotonic() > self._deadline:
            self.stop()
            raise ServerFailedError(
                self.name, f"does not answer after {self.patience:.0f} s", self.log
            )
        return False

    def check(self) -> None:
        """See that the process lives. Raises ``ServerFailedError`` when it ended by itself."""
        code = self._process.poll() if self._process else 0
        if code is not None:
            self.stop()
            raise ServerFailedError(self.name, f"ended with {code}", self.log)

    def stop(self) -> None:
        """End the process and all its children; fine when it is not running."""
        self.ask_to_stop()
        process, self._process = self._process, None
        if process:
            process.wait()

    def ask_to_stop(self) -> None:
        """Begin what `stop` waits for."""
        if self._process and self._process.stdin:
            self._process.stdin.close()


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
    emulator = [sys.executable, "-m", "ls_pipeline.cli.servers.gcs_emulator"]
    return Server(
        "GCS (emulator)",
        [*emulator, "--host", HOST, "--port", "{port}"],
        logs / "gcs.log",
        clients={"STORAGE_EMULATOR_HOST": "{url}", "GOOGLE_CLOUD_PROJECT": "demo"},
        health="/storage/v1/b?project=demo",
    )


USERNAME = "demo@example.com"

LOOPBACK = IPv4Network("127.0.0.0/8")
INNER = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", str(LOOPBACK), "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "233.252.0.0/24"),
    *("240.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "::ffff:0:0/96"),
    *("::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001:0000::/32"),
    *("2001:20::/28", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
)
"""The networks in which Label Studio calls nobody, unless it is told others."""


def _inner_but(host: str) -> str:
    """Give these networks in Label Studio's form, without one loopback address."""
    loopback = LOOPBACK.address_exclude(IPv4Network(host))
    others = (one for one in INNER if one != str(LOOPBACK))
    return ",".join([*others, *map(str, loopback)])


def label_studio_server(
    home: Path,
    logs: Path,
    buckets: Mapping[str, str],
    password: str = "",
    port: int | None = None,
) -> Server:
    """Give Label Studio on its own SQLite below ``home``.

    ``buckets`` is the environment that leads its storage connections to the bucket servers.
    Its first start takes up to a minute: it makes its database.
    """
    _require("label_studio")
    home.mkdir(parents=True, exist_ok=True)
    token = _kept_secret(home / "token", "")
    script = Path(sys.executable).with_name("label-studio")
    port = port or _free_port()
    environment = {
        "LABEL_STUDIO_HOST": f"http://{HOST}:{port}",  # the links it gives to its clients
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_USERNAME": USERNAME,
        "LABEL_STUDIO_PASSWORD": _kept_secret(home / "password", password),
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "0",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "0",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        # It may call the receiver of its webhooks, and nobody else on this machine.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": _inner_but(WEBHOOKS_HOST),
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
        health="/health",
        patience=600,
        port=port,
    )


def dagster_server(
    logs: Path,
    environment: Mapping[str, str],
    module: str = "ls_pipeline.definitions",
    port: int | None = None,
) -> Server:
    """Give Dagster: webserver, daemon and a module's definitions, with this environment."""
    return Server(
        "Dagster",
        # Its pages have all of it; a log is a file that nobody removes.
        [
            *(sys.executable, "-m", "dagster", "dev", "--log-level", "warning"),
            *("-m", module, "-h", HOST, "-p", "{port}"),
        ],
        logs / "dagster.log",
        environment={
            "DO_NOT_TRACK": "1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            # Looks are many short threads: with an arena for each, memory creeps up for hours.
            "MALLOC_ARENA_MAX": "2",
            **environment,
        },
        is_up=_daemons_are_up,
        patience=180,
        port=port or _free_port(),
    )


@contextmanager
def running(
    servers: Sequence[Server], tell: Callable[[Server, str], None] = lambda _server, _state: None
) -> Iterator[None]:
    """Start servers side by side, and stop them all on the way out, however that comes.

    ``tell`` hears ``starting``, ``ready`` and ``stopped`` of each.
    """
    try:
        for server in servers:
            tell(server, "starting")
            server.launch()
        _wait_for_all(servers, tell)
        yield
    finally:
        for server in servers:
            server.ask_to_stop()
        for server in servers:
            server.stop()
            tell(server, "stopped")


def _wait_for_all(servers: Sequence[Server], tell: Callable[[Server, str], None]) -> None:
    """Wait, in one thread, so that the first failure and Ctrl-C are seen at once."""
    waiting = list(servers)
    while waiting:
        for server in [one for one in waiting if one.is_ready()]:
            waiting.remove(server)
            tell(server, "ready")
        time.sleep(PAUSE)


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


def _daemons_are_up(server: Server) -> bool:
    """Tell whether the webserver answers and every daemon it needs is healthy.

    A heartbeat from before the launch is an earlier daemon's, on the same DAGSTER_HOME.
    """
    daemons = "allDaemonStatuses { required healthy lastHeartbeatTime }"
    query = f"{{ instance {{ daemonHealth {{ {daemons} }} }} }}"
    request = urllib.request.Request(  # noqa: S310 - our own server's address
        f"{server.url}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with _OPENER.open(request, timeout=5) as answer:
            health = json.load(answer)["data"]["instance"]["daemonHealth"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(
        one["healthy"] and one["lastHeartbeatTime"] > server.launched
        for one in health["allDaemonStatuses"]
        if one["required"]
    )
