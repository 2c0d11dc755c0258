"""How a listing is put together from requests: in order, and where it is long, many at once.

A request lists the keys after a given one, a thousand at most, and takes a tenth of a second from
afar. So that they needn't wait for each other, a listing is cut at *range boundaries*: keys at
which pages ended when it was last seen whole. Between two of them the keys of each `KeyRange` are
asked for at the same time and given in their order. A range begins after a boundary and ends with
the next, so that nothing falls between two; whichever keys are chosen, and whatever has come or
gone since, the result is the same, and only more or fewer requests are made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from operator import attrgetter, gt
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.errors import BucketError
from ls_pipeline.domain.listing_ranges import PAGE, ListingRange, RangeBoundary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ls_pipeline.domain.objects import StoredObject

PARALLEL_RANGES = 32
"""Ranges asked for at once: 80 ms away they bring as many pages as one process can take in."""

PAGES_AHEAD = 2
"""Pages of a range that may wait for their turn; the rest of a range that has grown comes then."""


class ListingPage(NamedTuple):
    """What came of one request; ``token`` asks for what follows, if anything does.

    ``read`` gives the objects, in the order of their keys, and may give none though others follow.
    ``fingerprint`` is of how the bucket wrote them, empty where it has none.
    """

    token: str
    read: Callable[[], list[StoredObject]]
    fingerprint: str = ""


class KeyRange(NamedTuple):
    """The keys after ``after`` up to ``end``, or to the last; ``token`` goes on in it."""

    after: str
    token: str
    end: RangeBoundary | None

    @property
    def limit(self) -> int:
        """Give how many objects to ask for: as many as there were, that they come as they did."""
        return (self.end.listed if self.end and not self.token else 0) or PAGE

    def same(self, answer: ListingPage) -> RangeBoundary | None:
        """Give the range's end when it was answered as it was before."""
        if self.end and not self.token and self.end.fingerprint:
            return self.end if answer.fingerprint == self.end.fingerprint else None
        return None


class _Part(NamedTuple):
    ranges: list[ListingRange]
    rest: KeyRange | None
    at_end: bool
    """Whether nothing follows in the whole listing."""


def parallel_listing(
    place: str,
    fetch: Callable[[str, str, int], ListingPage],
    after: str = "",
    range_boundaries: Iterable[RangeBoundary] = (),
) -> Iterator[ListingRange]:
    """List what comes after a key; ``fetch(after, token, limit)`` makes one request.

    The first is made when it is asked for, alone; from then on some are made ahead, in other
    threads, at most ``PARALLEL_RANGES * PAGES_AHEAD``. An error is raised when its
    piece's turn comes.

    Raises ``BucketError``, of the URI ``place``, when the keys come in another order than that of
    their bytes: what is compared in order would pass some over, and take others for removed. A page
    may come twice.
    """
    least = after
    for listing_range in _listing_ranges(fetch, after, range_boundaries):
        keys = [one.key for one in listing_range.objects]
        if keys and (keys[0] < least or any(map(gt, keys, islice(keys, 1, None)))):
            raise BucketError(
                place,
                "the store does not list keys in the order of their bytes, as S3 does, so that "
                "nobody can tell what is new there; use a store or a kind of bucket that does.",
            )
        least = keys[0] if keys else listing_range.through
        yield listing_range


def _listing_ranges(
    fetch: Callable[[str, str, int], ListingPage],
    after: str,
    range_boundaries: Iterable[RangeBoundary],
) -> Iterator[ListingRange]:
    known = iter(range_boundaries)
    first = KeyRange(after, "", next((one for one in known if one.key > after), None))
    answer = fetch(after, "", first.limit)
    if same := first.same(answer):
        yield ListingRange(same.key, (), same=same)
        rest = KeyRange(same.key, "", None)
    else:
        objects = answer.read()
        if objects:
            yield _listing_range(objects, answer)
        rest = KeyRange(objects[-1].key if objects else after, answer.token, None)
        known = chain([first.end] if first.end else (), known)
    if answer.token:
        yield from _ahead(fetch, _key_ranges(rest, known))


def _listing_range(objects: list[StoredObject], answer: ListingPage) -> ListingRange:
    return ListingRange(objects[-1].key, objects, answer.fingerprint)


def _key_ranges(rest: KeyRange, range_boundaries: Iterable[RangeBoundary]) -> Iterator[KeyRange]:
    """Cut the rest of a listing at its range boundaries."""
    for boundary in range_boundaries:
        if boundary.key > rest.after:
            yield rest._replace(end=boundary)
            rest = KeyRange(boundary.key, "", None)
    yield rest


def _ahead(
    fetch: Callable[[str, str, int], ListingPage], key_ranges: Iterator[KeyRange]
) -> Iterator[ListingRange]:
    lanes = ThreadPoolExecutor(PARALLEL_RANGES + 1)
    waiting: deque[Future[_Part]] = deque()
    width = 4  # who stops soon has asked for little in vain
    try:
        while True:
            some = islice(key_ranges, width - len(waiting))
            waiting.extend(lanes.submit(_part, fetch, one) for one in some)
            if not waiting:
                return
            part = waiting.popleft().result()
            while part.rest:
                following = lanes.submit(_part, fetch, part.rest)
                yield from part.ranges
                part = following.result()
            yield from part.ranges
            if part.at_end:
                return
            width = min(2 * width, PARALLEL_RANGES)
    finally:
        lanes.shutdown(wait=False, cancel_futures=True)


def _part(fetch: Callable[[str, str, int], ListingPage], asked: KeyRange) -> _Part:
    """Fetch the next pages of a range."""
    ranges = []
    for _ in range(PAGES_AHEAD):
        answer = fetch(asked.after, asked.token, asked.limit)
        if same := asked.same(answer):
            return _Part([ListingRange(same.key, (), same=same)], None, at_end=not answer.token)
        found = answer.read()
        within = found
        if asked.end:
            within = found[: bisect_right(found, asked.end.key, key=attrgetter("key"))]
        if within:
            exact = answer if len(within) == len(found) else answer._replace(fingerprint="")
            ranges.append(_listing_range(within, exact))
        past_end = len(within) < len(found)
        is_over = past_end or (within and asked.end and within[-1].key == asked.end.key)
        if is_over or not answer.token:
            return _Part(ranges, None, at_end=not answer.token and not past_end)
        asked = asked._replace(token=answer.token)
    return _Part(ranges, asked, at_end=False)
