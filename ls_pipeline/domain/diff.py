"""The difference between what the ledger knows and what a bucket lists."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ls_pipeline.domain.listing_ranges import ListingRange
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


class RangeDiff(NamedTuple):
    """How two sides stand to each other after the last range_diff, up to a key."""

    through: str
    unchanged: int
    """Keys at which nothing changed."""
    differences: list[Difference]
    """The others, in order."""
    filtered: int = 0
    """Keys that the filter still leaves out, of a range that is listed as it was."""


def diff_ranges(
    known: Callable[[str, str], Iterable[Sequence[KnownObject]]],
    listed: Iterable[ListingRange],
    select: Filter,
    after: str = "",
) -> Iterator[RangeDiff]:
    """Compare what is known with a listing as `diff` does, and as fast as can be where it is alike.

    ``known(after, through)`` gives pages of what is known between two keys, the second included and
    empty for the end. A page of it, and a range of the listing, are held at a time.
    """
    at = after
    for listing_range in listed:
        if listing_range.through <= at:  # it was delivered twice
            continue
        if listing_range.same:
            same = listing_range.same
            yield RangeDiff(listing_range.through, same.listed - same.filtered, [], same.filtered)
        else:
            objects = listing_range.objects
            if objects[0].key <= at:
                objects = [one for one in objects if one.key > at]
            yield from _compared(known(at, listing_range.through), [objects], select)
        at = listing_range.through
    yield from _compared(known(at, ""), (), select)


def _compared(
    known: Iterable[Sequence[KnownObject]],
    listed: Iterable[Sequence[StoredObject]],
    select: Filter,
) -> Iterator[RangeDiff]:
    for through, was, now in _common_pages(iter(known), iter(listed)):
        there, here = list(map(_identity, was)), list(map(_identity, now))
        if there == here and State.REMOVED not in map(_state, was):
            yield RangeDiff(through, len(here), [])
            continue
        there = [_identity(one) for one in was if one.state is not State.REMOVED]
        same = set(there).intersection(here)
        known_else = (one for one in was if _identity(one) not in same)
        listed_else = (one for one in now if _identity(one) not in same)
        yield RangeDiff(through, len(same), list(diff(known_else, listed_else, select)))


_identity = itemgetter(0, 1, 2)
"""What two sides are compared by: key, version and size."""

_state = attrgetter("state")


def _common_pages(
    known: Iterator[Sequence[KnownObject]], listed: Iterator[Sequence[StoredObject]]
) -> Iterator[tuple[str, Sequence[KnownObject], Sequence[StoredObject]]]:
    """Cut two streams of pages at the same keys."""
    was, now = next(known, ()), next(listed, ())
    while was or now:
        through = min(page[-1].key for page in (was, now) if page)
        ends = [bisect_right(page, through, key=attrgetter("key")) for page in (was, now)]
        yield through, was[: ends[0]], now[: ends[1]]
        was = was[ends[0] :] or next(known, ())
        now = now[ends[1] :] or next(listed, ())


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
        return Change.FILTERED if select.rejects(now.key) else Change.REPLACED
    return Change.FILTERED if select.rejects(now.key) else Change.ADDED
