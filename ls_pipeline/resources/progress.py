"""Who watches a pass: nobody, or a person at a terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far a pass has come. Never raises; may be called from one thread only."""

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Say that of some work ``done`` is done, of ``total`` where that is known."""
        ...


class SilentProgress:
    """Nobody watches."""

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Say nothing."""
