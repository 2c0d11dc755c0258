"""The difference between what the ledger knows and what a bucket lists."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.domain.objects import Filter, StoredObject


class State(str, Enum):
    """What became of an object's version that the ledger knows."""

    BEGUN = "begun"
    """Some of its rows are tasks, and no pass has finished it; known in a version of no bucket."""
    LOADED = "loaded"
    QUARANTINED = "quarantined"
    REMOVED = "removed"
    """It was loaded, and is gone from the bucket; its tasks may remain."""


class KnownObject(NamedTuple):
    """One object as the ledger remembers it. A tuple: there may be millions."""

    key: str
    version: str
    size: int
    state: State


class Change(str, Enum):
    """How the bucket and the ledger stand to each other at one key."""

    ADDED = "added"
    REPLACED = "replaced"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    FILTERED = "filtered"
    """In the bucket, not known, and left out by ``prefix`` or ``regex``."""


WORK = frozenset({Change.ADDED, Change.REPLACED, Change.REMOVED})
"""The changes that ask for something to be done."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key, and how the two sides stand there; the side that lacks it is None."""

    key: str
    change: Change
    known: KnownObject | None
    listed: StoredObject | None


def diff(
    known: Iterable[KnownObject], listed: Iterable[StoredObject], select: Filter
) -> Iterator[Difference]:
    """Compare two streams in the order of their keys' bytes; memory stays flat.

    What decides is (key, version, size), never a clock. A key listed twice counts once.
    An object that is known stays known when the filter leaves it out later: filters are
    never state, and a narrower one removes nothing.
    """
    for key, was, now in _pairs(iter(known), iter(listed)):
        change = _change(was, now, select)
        if change is not None:
            yield Difference(key, change, was, now)


def _pairs(
    known: Iterator[KnownObject], listed: Iterator[StoredObject]
) -> Iterator[tuple[str, KnownObject | None, StoredObject | None]]:
    was, now, last = next(known, None), next(listed, None), None
    while was or now:
        # Python compares strings by code point, which is the order of their UTF-8 bytes.
        if now and last is not None and now.key <= last:
            now = next(listed, None)
        elif was and now and was.key == now.key:
            last = now.key
            yield now.key, was, now
            was, now = next(known, None), next(listed, None)
        elif now and (not was or now.key < was.key):
            last = now.key
            yield now.key, None, now
            now = next(listed, None)
        elif was:
            yield was.key, was, None
            was = next(known, None)


def _change(was: KnownObject | None, now: StoredObject | None, select: Filter) -> Change | None:
    if now is None:
        return Change.REMOVED if was and was.state is not State.REMOVED else None
    if was and was.state is not State.REMOVED:
        same = (was.version, was.size) == (now.version, now.size)
        if same:
            return Change.UNCHANGED
        return Change.FILTERED if select.rejected_by(now.key) else Change.REPLACED
    return Change.FILTERED if select.rejected_by(now.key) else Change.ADDED
