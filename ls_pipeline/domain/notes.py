"""Texts for people that come from outside, or that may be many: each is cut, and so is the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

MOST_NOTES = 50
"""Notes of a run that are shown; of the others, their number."""

LONGEST_NOTE = 1000
LONGEST_REASON = 500
LONGEST_NAME = 60
"""Characters."""


def shorten(text: str, longest: int = LONGEST_REASON) -> str:
    """Return a text, with an ellipsis in place of what is too long."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def quoted(name: str) -> str:
    """Return a name in quotes on one line, shortened."""
    return repr(shorten(name, LONGEST_NAME))


class Notes(list[str]):
    """What a person should know of a run: the first sentences, then how many follow."""

    def __init__(self, notes: Iterable[str] = ()) -> None:
        super().__init__()
        self.more = 0
        self.extend(notes)

    def append(self, note: str) -> None:
        """Add a sentence, which is cut if it is very long."""
        if len(self) < MOST_NOTES:
            super().append(shorten(note, LONGEST_NOTE))
        else:
            self._count(1)

    def extend(self, notes: Iterable[str]) -> None:
        """Add some sentences, or all that other notes stand for."""
        more = notes.more if isinstance(notes, Notes) else 0
        for note in list(notes)[:-1] if more else notes:
            self.append(note)
        self._count(more)

    def __iadd__(self, notes: Iterable[str]) -> Self:  # type: ignore[misc, override]
        self.extend(notes)
        return self

    def _count(self, more: int) -> None:
        """Let the last sentence say how many more there are."""
        self.more += more
        if self.more:
            self[MOST_NOTES:] = [f"… and {self.more:,} more."]
