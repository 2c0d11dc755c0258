"""How a command works on a connection: it holds the connection, as a run does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.engine.context import RunContext
from ls_pipeline.resources.progress import SilentProgress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.ledger.connection import HeldConnection

PATIENCE = 10.0
"""Seconds to wait for a run that works on the connection."""


def hold(name: str, cli: CliContext) -> AbstractContextManager[HeldConnection]:
    """Hold a connection.

    Raises ``UnknownConnectionError``, and ``LeaseError`` if a run works on the connection.
    """
    return cli.ledger.acquire(name, PATIENCE)


def run_context(held: HeldConnection, cli: CliContext) -> RunContext:
    """Return what a run works with, with the bucket of the target, if there is one."""
    revision = held.settings.in_force()
    side = revision.connection.target or revision.connection.source
    if side is None:  # no such connection can be stored
        raise ValueError(f"connection {held.name!r} has no bucket")
    return RunContext(
        held,
        revision,
        cli.bucket_of(side),
        cli.label_studio,
        SilentProgress(),
        open_bucket=cli.bucket_of,
    )
