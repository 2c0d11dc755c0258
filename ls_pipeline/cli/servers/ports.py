"""Ports and addresses of this machine on which a server can listen."""

from __future__ import annotations

import secrets
import socket

from ls_pipeline.domain.errors import PipelineError

HOST = "127.0.0.1"
WEBHOOKS_HOST = "127.76.83.1"
"""A second loopback address, for the webhook receiver only: Label Studio may call this one."""

PORTS = range(20_000, 32_768)
"""Below the ports that Linux and macOS use for outgoing connections: a free port stays free."""


def free_port() -> int:
    """Return a random port that is free. Its server may start to listen only minutes later."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port


def choose_port(wanted: int | None, usual: int, host: str = HOST) -> int:
    """Return the wanted port; if none is wanted, the usual port, or a free one if it is taken.

    Raises ``PipelineError`` if the wanted port is taken, or if ``host`` is not this machine's.
    """
    if wanted is None:
        return usual if is_free(usual, host) else free_port()
    if not is_address(host):
        raise PipelineError(f"{host} is not an address of this machine.", hint="Choose another.")
    if not is_free(wanted, host):
        raise PipelineError(f"Port {wanted} is taken.", hint="Choose another, or leave it out.")
    return wanted


def is_address(host: str) -> bool:
    """Return whether a server can listen here. Linux has many loopback addresses, macOS has one."""
    return is_free(0, host)


def is_free(port: int, host: str = HOST) -> bool:
    """Return whether a server can listen on this port of this address."""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    with socket.socket(family) as probe:
        # As the servers do: ignore connections that an earlier server closed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
