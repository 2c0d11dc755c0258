"""A server process on a loopback port, which ends with the process that started it."""

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
from ls_pipeline.resources.private_files import create_private_file, create_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PAUSE = 0.2
"""Seconds between two checks of a server that is starting."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""The only variables that a server inherits. Label Studio would read variables like USERNAME."""

LARGEST_LOG = 20 * 2**20
"""Bytes. A larger log is renamed when its server starts."""


class ServerFailedError(PipelineError):
    """A server did not start."""

    def __init__(self, server: Server, what: str) -> None:
        name, log = server.name, server.log
        tail = _end_of(log).decode(errors="replace").splitlines()[-15:] if log.exists() else []
        super().__init__(f"{name} {what}. Its log {log} ends with:", details=tail)


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
    """A server process. `start` returns when it answers, `stop` when all its processes ended.

    In ``command``, ``{port}`` stands for the port, which is a free one by default. ``environment``
    is added to `INHERITED`. ``clients`` are the variables that a client needs, with ``{url}`` for
    the address. ``health`` is the path that answers when the server is ready.
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
        """The variables that point a client at this server."""
        return {name: value.format(url=self.url) for name, value in self.clients.items()}

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ``ServerFailedError``."""
        self.launch()
        while not self.is_ready():
            time.sleep(PAUSE)

    def launch(self) -> None:
        """Start the server without waiting. Raises ``ServerFailedError`` if its port is taken."""
        if not is_free(self.port):
            # The process that took it would answer instead.
            reason = f"can't use port {self.port}, because another process uses it"
            raise ServerFailedError(self, reason)
        create_private_folder(self.log.parent)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        command = [part.format(port=self.port) for part in self.command]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.launched = time.time()
        self._deadline = time.monotonic() + self.patience
        create_private_file(self.log)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ls_pipeline.cli.servers.process_guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Unbuffered, so that the log shows where a server hangs.
                env={**inherited, "PYTHONUNBUFFERED": "1", **self.environment},
                start_new_session=True,  # so that Ctrl-C reaches only this process
                umask=0o077,  # no other user may read the server's files
            )

    def is_ready(self) -> bool:
        """Return whether the server answers. Raises ``ServerFailedError`` if it ended or hangs."""
        self.check()
        if self.is_up(self):
            return True
        if time.monotonic() > self._deadline:
            self.stop()
            raise ServerFailedError(self, f"does not answer after {self.patience:.0f} s")
        return False

    def check(self) -> None:
        """Raise ``ServerFailedError`` if the process ended by itself."""
        code = self._process.poll() if self._process else 0
        if code is not None:
            self.stop()
            raise ServerFailedError(self, f"ended with exit code {code}")

    def stop(self) -> None:
        """End the process and all its children, if it is running."""
        self.ask_to_stop()
        process, self._process = self._process, None
        if process:
            process.wait()

    def ask_to_stop(self) -> None:
        """Ask the server to end, without waiting."""
        if self._process and self._process.stdin:
            self._process.stdin.close()


@contextmanager
def running(
    servers: Sequence[Server],
    on_state: Callable[[Server, str], None] = lambda _server, _state: None,
) -> Iterator[None]:
    """Start servers at the same time, and stop all of them at the end or after an error.

    ``on_state`` is called with each server and ``starting``, ``ready`` or ``stopped``.
    """
    try:
        for server in servers:
            on_state(server, "starting")
            server.launch()
        _wait_for_all(servers, on_state)
        yield
    finally:
        for server in servers:
            server.ask_to_stop()
        for server in servers:
            server.stop()
            on_state(server, "stopped")


def _wait_for_all(servers: Sequence[Server], on_state: Callable[[Server, str], None]) -> None:
    """Wait in one thread, so that the first failure or Ctrl-C ends the wait at once."""
    waiting = list(servers)
    while waiting:
        for server in [server for server in waiting if server.is_ready()]:
            waiting.remove(server)
            on_state(server, "ready")
        time.sleep(PAUSE)
