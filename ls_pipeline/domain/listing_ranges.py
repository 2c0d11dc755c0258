"""The ranges of a listing: compared with what is known, and remembered for the next listing.

A bucket writes an unchanged range exactly as before, byte for byte. So if every object of a range
was processed, the next listing only compares the range's fingerprint.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.diff import Change, Difference, KnownObject, State, diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ls_pipeline.domain.objects import Filter, StoredObject

PAGE = 999
"""Objects that one request lists: 1,000, less the boundary that a page of GCS begins with."""

FEW = 250
"""A smaller range is joined with the next one, if one request can list both."""


class RangeBoundary(NamedTuple):
    """The last key of a range; the range begins after the previous boundary.

    ``fingerprint`` identifies how the bucket wrote the range when all of it was processed; it is
    empty if unknown. The range had ``listed`` objects (0: unknown), and the filter rejected
    ``filtered`` of them.
    """

    key: str
    fingerprint: str = ""
    listed: int = 0
    filtered: int = 0


class ListingRange(NamedTuple):
    """Objects of a listing, ordered by key; ``through`` is the last key.

    ``fingerprint`` identifies how the bucket wrote exactly these objects, if known. If the range is
    unchanged, ``same`` is its boundary and ``objects`` is empty.
    """

    through: str
    objects: Sequence[StoredObject]
    fingerprint: str = ""
    same: RangeBoundary | None = None


class RangeDiff(NamedTuple):
    """The difference between what is known and what is listed, from the last diff's key on."""

    through: str
    """The last key that was compared."""
    unchanged: int
    """The number of unchanged keys."""
    differences: list[Difference]
    """The other keys, in order."""
    filtered: int = 0
    """The number of keys that the filter rejects in an unchanged range."""
    completed: ListingRange | None = None
    """The range that ends here; None within a range and after the end of the listing."""


def diff_ranges(
    known: Callable[[str, str], Iterable[Sequence[KnownObject]]],
    listed: Iterable[ListingRange],
    select: Filter,
    after: str = "",
) -> Iterator[RangeDiff]:
    """Compare what is known with a listing as `diff` does, fast for ranges that are unchanged.

    ``listed`` has each key once, in order, as `Bucket.ranges` yields them.
    ``known(after, through)`` returns pages of what is known after one key and up to another,
    included; an empty ``through`` means the end. Memory holds one page and one range at a time.
    """
    last = after
    for listing_range in listed:
        through, objects, _, same = listing_range
        if same:
            unchanged = same.listed - same.filtered
            yield RangeDiff(through, unchanged, [], same.filtered, listing_range)
        else:
            for range_diff in _diff_pages(known(last, through), [objects], select):
                completed = listing_range if range_diff.through == through else None
                yield range_diff._replace(completed=completed)
        last = through
    yield from _diff_pages(known(last, ""), (), select)


def _diff_pages(
    known: Iterable[Sequence[KnownObject]], listed: Iterable[Sequence[StoredObject]], select: Filter
) -> Iterator[RangeDiff]:
    for through, known_page, listed_page in _align(iter(known), iter(listed)):
        if select.manifest is not None:
            yield RangeDiff(through, 0, list(diff(known_page, listed_page, select)))
            continue
        known_versions, listed_versions = (
            list(map(_version, page)) for page in (known_page, listed_page)
        )
        if known_versions == listed_versions and State.REMOVED not in map(_state, known_page):
            yield RangeDiff(through, len(listed_versions), [])
            continue
        present = (item for item in known_page if item.state is not State.REMOVED)
        same = set(map(_version, present)).intersection(listed_versions)
        known_rest = (item for item in known_page if _version(item) not in same)
        listed_rest = (item for item in listed_page if _version(item) not in same)
        yield RangeDiff(through, len(same), list(diff(known_rest, listed_rest, select)))


_version = itemgetter(0, 1, 2)
"""What decides whether an object changed: key, version and size."""

_state = attrgetter("state")


def _align(
    known: Iterator[Sequence[KnownObject]], listed: Iterator[Sequence[StoredObject]]
) -> Iterator[tuple[str, Sequence[KnownObject], Sequence[StoredObject]]]:
    """Cut two streams of pages at the same keys."""
    known_page, listed_page = next(known, ()), next(listed, ())
    while known_page or listed_page:
        pages = known_page, listed_page
        through = min(page[-1].key for page in pages if page)
        known_end, listed_end = (
            bisect_right(page, through, key=attrgetter("key")) for page in pages
        )
        yield through, known_page[:known_end], listed_page[:listed_end]
        known_page = known_page[known_end:] or next(known, ())
        listed_page = listed_page[listed_end:] or next(listed, ())


class BoundaryTracker:
    """Records, while a listing is compared, into which ranges to cut the next one."""

    def __init__(self) -> None:
        self._boundaries: list[RangeBoundary] = []
        self._filtered = 0

    def record(self, range_diff: RangeDiff) -> None:
        """Take the next diff of the listing; the last one of a range sets a boundary."""
        self._filtered += sum(item.change is Change.FILTERED for item in range_diff.differences)
        if completed := range_diff.completed:
            for boundary in _boundaries_of(completed, self._filtered):
                self._add(boundary)
            self._filtered = 0

    def _add(self, boundary: RangeBoundary) -> None:
        before = self._boundaries[-1] if self._boundaries else None
        if before and before.listed < FEW and before.listed + boundary.listed <= PAGE:
            joined = before.listed + boundary.listed
            self._boundaries[-1] = RangeBoundary(boundary.key, listed=joined)
        else:
            self._boundaries.append(boundary)

    def range_boundaries(self, unfinished: Iterable[str]) -> list[RangeBoundary]:
        """Return the boundaries; a range that holds an unfinished key has no fingerprint."""
        boundaries = list(self._boundaries)
        for key in unfinished:
            index = bisect_left(boundaries, key, key=attrgetter("key"))
            if index < len(boundaries):
                boundaries[index] = boundaries[index]._replace(fingerprint="")
        return boundaries


def _boundaries_of(listing_range: ListingRange, filtered: int) -> Iterator[RangeBoundary]:
    through, objects, fingerprint, same = listing_range
    if same:
        yield same
    elif len(objects) <= PAGE:
        yield RangeBoundary(through, fingerprint, len(objects), filtered)
    else:  # an emulator lists everything in one page
        for page in batches(objects, PAGE):
            yield RangeBoundary(page[-1].key, listed=len(page))
