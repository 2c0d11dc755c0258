"""The difference between what the ledger knows and what a bucket lists."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.domain.objects import Filter, StoredObject


class State(str, Enum):
    """What happened to the version of an object that the ledger knows."""

    BEGUN = "begun"
    """A run began to load it, and none has finished it; its known version never matches."""
    LOADED = "loaded"
    QUARANTINED = "quarantined"
    REMOVED = "removed"
    """It was loaded, then removed from the bucket; its tasks may remain."""


class KnownObject(NamedTuple):
    """An object in the ledger. A tuple, because there may be millions."""

    key: str
    version: str
    size: int
    state: State

    @property
    def is_finished(self) -> bool:
        """Whether a run finished the object, and it is still in the bucket."""
        return bool(self.version) and self.state in {State.LOADED, State.QUARANTINED}


class Change(str, Enum):
    """How the bucket differs from the ledger at one key."""

    ADDED = "added"
    REPLACED = "replaced"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    FILTERED = "filtered"
    """The bucket has a version that the ledger doesn't know; a param rejects it."""


WORK = frozenset({Change.ADDED, Change.REPLACED, Change.REMOVED})
"""The changes that a run acts on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The change at one key, with both sides; the side that lacks the key is None."""

    key: str
    change: Change
    known: KnownObject | None
    listed: StoredObject | None


def diff(
    known: Iterable[KnownObject], listed: Iterable[StoredObject], select: Filter
) -> Iterator[Difference]:
    """Compare two streams, both in the order of their keys' bytes, in constant memory.

    An object is the same if its key, version and size are; no time is compared. A key that is
    listed twice counts once. A known object stays known if a narrower filter now skips it; but if
    the manifest does not list it any more, it counts as removed.
    """
    for key, known_object, listed_object in _pairs(iter(known), iter(listed)):
        present = listed_object
        if known_object and known_object.state is not State.REMOVED and select.takes_away(key):
            present = None
        change = _change(known_object, present, select)
        if change is not None:
            yield Difference(key, change, known_object, present)


def _pairs(
    known: Iterator[KnownObject], listed: Iterator[StoredObject]
) -> Iterator[tuple[str, KnownObject | None, StoredObject | None]]:
    left, right, last = next(known, None), next(listed, None), None
    while left or right:
        # Python compares strings by code point, which is the order of their UTF-8 bytes.
        if right and last is not None and right.key <= last:
            right = next(listed, None)
        elif left and right and left.key == right.key:
            last = right.key
            yield right.key, left, right
            left, right = next(known, None), next(listed, None)
        elif right and (not left or right.key < left.key):
            last = right.key
            yield right.key, None, right
            right = next(listed, None)
        elif left:
            yield left.key, left, None
            left = next(known, None)


def _change(
    known: KnownObject | None, listed: StoredObject | None, select: Filter
) -> Change | None:
    if known and known.state is State.REMOVED:
        known = None
    if listed is None:
        return Change.REMOVED if known else None
    if known and (known.version, known.size) == (listed.version, listed.size):
        return Change.UNCHANGED
    if select.rejected_by(listed.key):
        return Change.FILTERED
    return Change.ADDED if known is None or known.state is State.BEGUN else Change.REPLACED
