"""How a listing is put together from requests: in order, and in parallel if it is long.

A request lists up to a thousand keys after a given key, and takes a tenth of a second from afar.
To send requests in parallel, a listing is cut at *range boundaries*: the last keys of its pages
when it was last complete. Each `KeyRange` between two boundaries is listed at the same time,
and the results come in the order of the keys. A range begins after a boundary and ends with the
next, so no key falls between two ranges. Whichever boundaries are chosen, and whatever has changed
since, the result is the same; only the number of requests differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from operator import attrgetter, lt
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.errors import (
    BucketError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ls_pipeline.domain.listing_ranges import PAGE, ListingRange, RangeBoundary
from ls_pipeline.domain.objects import uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ls_pipeline.domain.objects import StoredObject

PARALLEL_RANGES = 32
"""Ranges listed at once: at 80 ms of latency, they fill one process with pages to read."""

PAGES_AHEAD = 2
"""Pages of a range that may wait for their turn; the rest of a grown range is listed then."""

REPEATED_AT_MOST = 10
"""Pages in a row without a new key, before the listing counts as endless."""


class ListingPage(NamedTuple):
    """The answer to one request; ``token`` asks for the next page, and is empty at the end.

    ``read`` returns the objects in the order of their keys, maybe none even if a page follows.
    ``fingerprint`` is a hash of the objects as the bucket wrote them; empty if unknown.
    """

    token: str
    read: Callable[[], list[StoredObject]]
    fingerprint: str = ""


class KeyRange(NamedTuple):
    """The keys after ``after`` up to ``end``, or to the last; ``token`` continues its listing."""

    after: str
    token: str
    end: RangeBoundary | None
    is_last: bool = False
    """Whether the keys after ``end`` belong to it, too."""

    @property
    def limit(self) -> int:
        """How many objects to ask for: as many as before, so that the answer can be the same."""
        return (self.end.listed if self.end and not self.token else 0) or PAGE

    def unchanged(self, page: ListingPage) -> RangeBoundary | None:
        """Return the range's end if the page has its fingerprint."""
        if self.end and not self.token and page.fingerprint == self.end.fingerprint != "":
            return self.end
        return None


class ListedBucket(ABC):
    """The part of a bucket that is the same for every store: names, listings, and versions."""

    scheme: str
    name: str

    @abstractmethod
    def _list(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        """Send one request for the keys after ``after``, or for the page of a ``token``."""

    def uri(self, key: str = "") -> str:
        return uri(self.scheme, self.name, key)

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        for listed in self.ranges(prefix, after):
            # A store's pages have at most PAGE objects; an emulator's page has all of them.
            for batch in batches(listed.objects, PAGE):
                yield list(batch)

    def ranges(
        self, prefix: str = "", after: str = "", range_boundaries: Iterable[RangeBoundary] = ()
    ) -> Iterator[ListingRange]:
        return list_ranges(self.uri(), partial(self._page, prefix), after, range_boundaries)

    def _page(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        page = self._list(prefix, after, token, limit)
        if token and page.token == token:
            raise _endless(self.uri())
        return page

    @abstractmethod
    def get(self, key: str, version: str = "") -> bytes: ...

    def version(self, key: str) -> str:
        stored = self.find(key)
        return stored.version if stored else ""

    def find(self, key: str) -> StoredObject | None:
        # Of the keys that start with this key, it is the first. HEAD would need other permissions.
        page = self._page(key, "", "", 1)
        while not (objects := page.read()) and page.token:
            page = self._page(key, "", page.token, 1)
        return objects[0] if objects and objects[0].key == key else None

    def _find_written(self, key: str, body: bytes) -> StoredObject:
        """Return the object that a put wrote, though its condition is refused by now.

        Raises ``ObjectChangedError`` if the object has another body.
        """
        stored = self.find(key)
        with suppress(ObjectNotFoundError):
            if stored and stored.size == len(body) and self.get(key, stored.version) == body:
                return stored
        raise ObjectChangedError(self.uri(key), is_write=True)


class _Part(NamedTuple):
    ranges: list[ListingRange]
    rest: KeyRange | None
    at_end: bool
    """Whether no key follows in the whole listing."""


def list_ranges(
    bucket: str,
    fetch: Callable[[str, str, int], ListingPage],
    after: str = "",
    range_boundaries: Iterable[RangeBoundary] = (),
) -> Iterator[ListingRange]:
    """List the keys after a key; ``fetch(after, token, limit)`` sends one request.

    The first request is sent alone, when it is asked for. Later ones are sent ahead from other
    threads, at most ``PARALLEL_RANGES * PAGES_AHEAD``. An error is raised in its range's turn.

    Each key comes once, in the order of its bytes, though the store may deliver a page twice, or
    pages that overlap. Raises ``BucketError`` about the URI ``bucket`` if the store lists keys in
    another order: a comparison in order would miss some objects and take others for removed.
    Raises ``BucketUnavailableError`` if it lists the same keys again and again.
    """
    first, last, repeated = after, after, 0
    for listed in _list_ranges(fetch, after, range_boundaries):
        keys = [stored.key for stored in listed.objects]
        is_strict = all(map(lt, keys, islice(keys, 1, None)))
        if keys and (keys[0] < first or not (is_strict or keys == sorted(keys))):
            raise BucketError(
                bucket,
                "the store does not list keys in the order of their bytes, as S3 does, so that "
                "new objects can't be found.",
                hint="Use a store or a kind of bucket that does.",
            )
        first = keys[0] if keys else last
        repeated = repeated + 1 if listed.through <= last else 0
        if repeated > REPEATED_AT_MOST:
            raise _endless(bucket)
        if repeated:
            continue
        if keys and (keys[0] <= last or not is_strict):
            new = {stored.key: stored for stored in listed.objects if stored.key > last}
            yield ListingRange(listed.through, list(new.values()))
        else:
            yield listed
        last = listed.through


def _endless(bucket: str) -> BucketUnavailableError:
    return BucketUnavailableError(
        bucket,
        "the store lists the same keys again and again.",
        hint="Check its address, and the proxy, if any.",
    )


def _list_ranges(
    fetch: Callable[[str, str, int], ListingPage],
    after: str,
    range_boundaries: Iterable[RangeBoundary],
) -> Iterator[ListingRange]:
    boundaries = iter(range_boundaries)
    first = KeyRange(after, "", next((item for item in boundaries if item.key > after), None))
    page = fetch(after, "", first.limit)
    if same := first.unchanged(page):
        yield ListingRange(same.key, (), same=same)
        rest = KeyRange(same.key, "", None)
    else:
        objects = page.read()
        if objects:
            yield _listing_range(objects, page)
        rest = KeyRange(objects[-1].key if objects else after, page.token, None)
        boundaries = chain([first.end] if first.end else (), boundaries)
    if page.token:
        yield from _list_ahead(fetch, _key_ranges(rest, boundaries))


def _listing_range(objects: list[StoredObject], page: ListingPage) -> ListingRange:
    return ListingRange(objects[-1].key, objects, page.fingerprint)


def _key_ranges(rest: KeyRange, range_boundaries: Iterable[RangeBoundary]) -> Iterator[KeyRange]:
    """Cut the rest of a listing at its range boundaries.

    Keys after the last boundary belong to the last range: mostly there aren't any.
    """
    for boundary in range_boundaries:
        begin = rest.end.key if rest.end else rest.after
        if boundary.key <= begin:
            continue
        if rest.end:
            yield rest
            rest = KeyRange(begin, "", boundary)
        else:
            rest = rest._replace(end=boundary)
    yield rest._replace(is_last=True)


def _list_ahead(
    fetch: Callable[[str, str, int], ListingPage], key_ranges: Iterator[KeyRange]
) -> Iterator[ListingRange]:
    threads = ThreadPoolExecutor(PARALLEL_RANGES + 1)
    waiting: deque[Future[_Part]] = deque()
    width = 4  # a caller that stops soon has caused few requests
    try:
        while True:
            wanted = islice(key_ranges, width - len(waiting))
            waiting.extend(threads.submit(_list_part, fetch, key_range) for key_range in wanted)
            if not waiting:
                return
            part = waiting.popleft().result()
            while part.rest:
                following = threads.submit(_list_part, fetch, part.rest)
                yield from part.ranges
                part = following.result()
            yield from part.ranges
            if part.at_end:
                return
            width = min(2 * width, PARALLEL_RANGES)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _list_part(fetch: Callable[[str, str, int], ListingPage], key_range: KeyRange) -> _Part:
    """Fetch the next pages of a range."""
    ranges = []
    for _ in range(PAGES_AHEAD):
        page = fetch(key_range.after, key_range.token, key_range.limit)
        if same := key_range.unchanged(page):
            is_unread = key_range.is_last and page.token
            rest = KeyRange(same.key, "", None) if is_unread else None
            return _Part([ListingRange(same.key, (), same=same)], rest, at_end=not page.token)
        listed = objects = page.read()
        end = None if key_range.is_last else key_range.end
        if end:
            objects = listed[: bisect_right(listed, end.key, key=attrgetter("key"))]
        if objects:
            exact = page if len(objects) == len(listed) else page._replace(fingerprint="")
            ranges.append(_listing_range(objects, exact))
        past_end = len(objects) < len(listed)
        is_over = past_end or (objects and end and objects[-1].key == end.key)
        if is_over or not page.token:
            return _Part(ranges, None, at_end=not page.token and not past_end)
        key_range = key_range._replace(token=page.token)
    return _Part(ranges, key_range, at_end=False)
