"""The ranges that a listing is cut into, and how each stood when it was last compared.

A bucket writes an unchanged range as it wrote it before, byte for byte. So a range that was dealt
with to its last object need not be understood again: it is enough that its fingerprint is the same.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.diff import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.domain.diff import RangeDiff
    from ls_pipeline.domain.objects import StoredObject

PAGE = 999
"""Objects that one request lists: a thousand, less the boundary that a page of GCS begins with."""

FEW = 250
"""A smaller range is joined with the next, where one request can list both."""


class RangeBoundary(NamedTuple):
    """A key at which a listing may be cut: the last of a range, which begins after the one before.

    ``fingerprint`` is of how a bucket wrote the range when all of it was dealt with; empty where
    that is not known. It had ``listed`` objects (0: not known), of which the filter left out
    ``filtered``.
    """

    key: str
    fingerprint: str = ""
    listed: int = 0
    filtered: int = 0


class ListingRange(NamedTuple):
    """Some objects of a listing, in the order of their keys, of which the last is ``through``.

    ``fingerprint`` is of how the bucket wrote exactly these, where it is known. A range that is
    written as it was is given as its boundary, ``same``, and its objects are not read.
    """

    through: str
    objects: Sequence[StoredObject]
    fingerprint: str = ""
    same: RangeBoundary | None = None


class Cutting:
    """Notes, while a listing is compared, where the next one is best cut."""

    def __init__(self) -> None:
        self._cut: list[RangeBoundary] = []
        self._filtered = 0

    def through(self, ranges: Iterable[ListingRange]) -> Iterator[ListingRange]:
        """Pass the ranges of a listing on; each is compared before the next is asked for."""
        for listing_range in ranges:
            self._filtered = 0
            yield listing_range
            if listing_range.same:
                self._add(listing_range.same)
            elif len(listing_range.objects) <= PAGE:
                size = len(listing_range.objects)
                self._add(
                    RangeBoundary(
                        listing_range.through, listing_range.fingerprint, size, self._filtered
                    )
                )
            else:  # an emulator's page has all there are
                for begin in range(0, len(listing_range.objects), PAGE):
                    some = listing_range.objects[begin : begin + PAGE]
                    self._add(RangeBoundary(some[-1].key, listed=len(some)))

    def saw(self, range_diff: RangeDiff) -> None:
        """Take note of how the range compares that was passed on last."""
        self._filtered += sum(one.change is Change.FILTERED for one in range_diff.differences)

    def _add(self, one: RangeBoundary) -> None:
        before = self._cut[-1] if self._cut else None
        if before and before.listed < FEW and before.listed + one.listed <= PAGE:
            self._cut[-1] = RangeBoundary(one.key, listed=before.listed + one.listed)
        else:
            self._cut.append(one)

    def range_boundaries(self, unsettled: Iterable[str]) -> list[RangeBoundary]:
        """Give the range_boundaries; a range with an unsettled key is to be looked at again."""
        cut = list(self._cut)
        for key in unsettled:
            at = bisect_left(cut, key, key=attrgetter("key"))
            if at < len(cut):
                cut[at] = cut[at]._replace(fingerprint="")
        return cut
