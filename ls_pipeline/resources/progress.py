"""How a run reports its progress: to a terminal, or not at all."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a run. Never raises; called from one thread only."""

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Report that ``done`` items of some work are done, of ``total`` if that is known."""


class SilentProgress:
    """Reports nothing."""

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Do nothing."""
