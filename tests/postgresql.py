"""A PostgreSQL server of the tests' own: unprivileged, on loopback, in a folder aside."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
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
    "max_connections": "40",
}


class NoPostgreSQL(Exception):  # noqa: N818 - a reason to skip
    """There is none on this machine; the message is the reason."""


class PostgreSQL:
    """A running server, and the databases that it gives to tests."""

    def __init__(self, server, password):
        self.server, self.password = server, password
        self.numbers = itertools.count()

    def url(self, database, password=None):
        word = password or self.password
        place = f"{HOST}:{self.server.port}"
        return f"postgresql+psycopg://{USER}:{word}@{place}/{database}"

    def sql(self, *statements):
        """Run statements outside of any transaction and of the tests' databases."""
        import psycopg

        place = self.url("postgres").replace("+psycopg", "")
        with psycopg.connect(place, autocommit=True) as db:
            return [db.execute(one).rowcount for one in statements]

    def throw_out(self, database):
        """Close all connections to a database, as a restart of the server does."""
        self.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # noqa: S608
            f"WHERE datname = '{database}'"
        )

    @contextmanager
    def database(self):
        """Give the URL of an empty database; whoever is still in it at the end is thrown out."""
        name = f"ledger_{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")


def programs():
    """Give the folder of the newest server's programs. Raises ``NoPostgreSQL``."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda one: [int(n) for n in re.findall(r"\d+", str(one))],
    )
    if found:
        return found[-1].parent
    if there := shutil.which("postgres"):
        return Path(there).resolve().parent
    raise NoPostgreSQL("no PostgreSQL here; scripts/postgresql installs it")


def unprivileged():
    """Give the id of a user that a server may run as. Raises ``NoPostgreSQL``."""
    if os.getuid():
        return os.getuid()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise NoPostgreSQL("PostgreSQL doesn't run as root, and there is no user postgres or nobody")


@contextmanager
def postgresql(logs):
    """Start a server of our own; it is gone afterwards, also when the tests are killed.

    Its text is not in the order of its bytes, where its build can tell another order.
    """
    bin_, user = programs(), unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="ls-pipeline-pg-"))
    try:
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        for one in (folder, folder / "password"):
            os.chown(one, user, -1)
        aside = [sys.executable, "-c", AS_USER, str(user), str(folder)]
        init = [*aside, str(bin_ / "initdb"), "-D", str(folder / "data"), "-U", USER]
        init += ["--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8", "--no-sync"]
        init += ["--locale=C.UTF-8", *_by_locale(bin_)]
        done = subprocess.run(init, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        command = [*aside, str(bin_ / "postgres"), "-D", str(folder / "data"), "-p", "{port}"]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        server = Server(
            "PostgreSQL", command, logs / "postgresql.log", is_up=lambda _: _answers(ready)
        )
        ready = PostgreSQL(server, password)
        with running([server]):
            yield ready
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _by_locale(bin_):
    """Choose an order that is not the bytes', as most servers have: ICU's, if it is built in."""
    said = subprocess.run([bin_ / "initdb", "--help"], capture_output=True, text=True, check=False)
    if "icu-locale" in said.stdout:
        return ["--locale-provider=icu", "--icu-locale=en-US"]
    return []


def _answers(server):
    import psycopg

    try:
        server.sql("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
