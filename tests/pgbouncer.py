"""A PgBouncer before the tests' PostgreSQL, in transaction mode."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server, running
from tests.postgresql import AS_USER, USER, PostgreSQL, answers, unprivileged

SETTINGS = """
[databases]
* = host={host} port={port} user={user} password={password} pool_size=3
[pgbouncer]
listen_addr = {host}
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
"""


def program():
    """Return PgBouncer's program; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pgbouncer(postgresql, logs):
    """Yield a pooler that speaks like the server; its clients share three connections to it."""
    user, folder = unprivileged(), Path(tempfile.mkdtemp(prefix="ls-pipeline-pool-"))
    file = folder / "pgbouncer.ini"
    command = [sys.executable, "-c", AS_USER, str(user), str(folder), program(), str(file)]
    server = Server("PgBouncer", command, logs / "pgbouncer.log", is_up=lambda _: answers(pool))
    pool = PostgreSQL(server, postgresql.password)
    address = {"host": HOST, "user": USER, "password": postgresql.password}
    ports = {"port": postgresql.server.port, "own_port": server.port}
    file.write_text(SETTINGS.format(**address, **ports))
    try:
        for path in (folder, file):
            os.chown(path, user, -1)
        with running([server]):
            yield pool
    finally:
        shutil.rmtree(folder, ignore_errors=True)
