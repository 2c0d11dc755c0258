"""The real servers that demo and tests run on: free loopback ports, stopped by their pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.cli.servers.ports import HOST, free_port, is_free
from ls_pipeline.domain.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PAUSE = 0.2
"""Seconds between looks at a server that is starting."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""All that a server gets of our environment: Label Studio reads bare names like USERNAME."""


LARGEST_LOG = 20 * 2**20
"""Bytes of a server's log that it goes on with when it is started; a larger one is put aside."""


class ServerFailedError(PipelineError):
    """A server did not start."""

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


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to loopback


def _answers(server: Server) -> bool:
    try:
        with OPENER.open(server.url + server.health, timeout=5):
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
    port: int = field(default_factory=free_port)
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
        if not is_free(self.port):
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
