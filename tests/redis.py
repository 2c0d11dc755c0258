"""A Redis server for the tests: on loopback, with a password, without files."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager

from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server, running


class NoRedis(Exception):  # noqa: N818 - a reason to skip
    """This machine can't run the server; the message is the reason."""


def program(folder):
    """Return a link to the server's program. Raises ``NoRedis``.

    Debian's redis-tools contains it under another name; its name decides what it does.
    """
    if program := shutil.which("redis-server") or shutil.which("redis-check-rdb"):
        server = folder / "redis-server"
        server.symlink_to(program)
        return server
    raise NoRedis("Redis is not installed; scripts/redis installs it")


@contextmanager
def redis(folder):
    """Run a server while the block runs; yield its URL."""
    password = secrets.token_hex(8)
    settings = folder / "redis.conf"
    settings.touch(mode=0o600)
    settings.write_text(f'bind {HOST}\nrequirepass {password}\nsave ""\n')
    command = [str(program(folder)), str(settings), "--port", "{port}"]
    server = Server("Redis", command, folder / "redis.log", is_up=lambda _: _answers(url))
    url = f"redis://:{password}@{HOST}:{server.port}/0"
    with running([server]):
        yield url


def _answers(url):
    from redis import Redis
    from redis.exceptions import ConnectionError as NoConnectionError

    with Redis.from_url(url) as client:
        try:
            return client.ping()
        except NoConnectionError:
            return False
