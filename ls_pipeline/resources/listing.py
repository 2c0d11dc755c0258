"""How a listing is put together from requests: in order, and where it is long, many at once.

A request lists the keys after a given one, a thousand at most, and takes a tenth of a second from
afar. So that they needn't wait for each other, a listing is cut at *milestones*: keys at which
pages began when it was last seen whole. Between two of them, `Range` by range, the keys are asked
for at the same time and given in their order. A range begins after a milestone and ends with the
next, so that nothing falls between two; whichever keys are chosen, and whatever has come or gone
since, the result is the same, and only more or fewer requests are made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ls_pipeline.domain.objects import StoredObject

PAGE = 1000
"""Objects that one request lists."""

MILESTONE_EVERY = PAGE - 1
"""Objects from one milestone to the next; on GCS a page begins with the milestone itself."""

LANES = 32
"""Ranges asked for at once: 80 ms away they bring as many pages as one process can take in."""

PAGES_AHEAD = 2
"""Pages of a range that may wait for their turn; the rest of a range that has grown comes then."""


class Page(NamedTuple):
    """Some objects in the order of their keys; ``token`` asks for what follows, if anything does.

    A page may hold no object and yet be followed by others.
    """

    objects: list[StoredObject]
    token: str


class Range(NamedTuple):
    """The keys after ``after`` and, unless it is empty, up to ``upto``; ``token`` goes on in it."""

    after: str
    token: str
    upto: str


class _Part(NamedTuple):
    pages: list[list[StoredObject]]
    rest: Range | None
    at_end: bool
    """Whether nothing follows in the whole listing."""


def in_order(
    fetch: Callable[[str, str], Page], after: str = "", milestones: Iterable[str] = ()
) -> Iterator[list[StoredObject]]:
    """List what comes after a key, page by page; ``fetch(after, token)`` makes one request.

    The first page is fetched when it is asked for, alone; from then on some are fetched ahead, in
    other threads, at most ``LANES * PAGES_AHEAD``. An error is raised when its page's turn comes.
    """
    first = fetch(after, "")
    if first.objects:
        yield first.objects
    if first.token:
        at = first.objects[-1].key if first.objects else after
        yield from _ahead(fetch, _ranges(at, Range(after, first.token, ""), milestones))


def noting(
    milestones: list[str], pages: Iterable[list[StoredObject]]
) -> Iterator[list[StoredObject]]:
    """Pass pages on, and append the keys at which such a listing is best cut next time."""
    listed = 0
    for page in pages:
        first = MILESTONE_EVERY - 1 - listed % MILESTONE_EVERY
        milestones += [one.key for one in page[first::MILESTONE_EVERY]]
        listed += len(page)
        yield page


def _ranges(at: str, current: Range, milestones: Iterable[str]) -> Iterator[Range]:
    """Cut what is left of a listing, of which the keys up to ``at`` are known, at milestones."""
    for milestone in milestones:
        if milestone > at:
            yield current._replace(upto=milestone)
            at, current = milestone, Range(milestone, "", "")
    yield current


def _ahead(
    fetch: Callable[[str, str], Page], ranges: Iterator[Range]
) -> Iterator[list[StoredObject]]:
    lanes = ThreadPoolExecutor(LANES + 1)
    waiting: deque[Future[_Part]] = deque()
    width = 4  # who stops soon has asked for little in vain
    try:
        while True:
            some = islice(ranges, width - len(waiting))
            waiting.extend(lanes.submit(_part, fetch, one) for one in some)
            if not waiting:
                return
            part = waiting.popleft().result()
            while part.rest:
                following = lanes.submit(_part, fetch, part.rest)
                yield from part.pages
                part = following.result()
            yield from part.pages
            if part.at_end:
                return
            width = min(2 * width, LANES)
    finally:
        lanes.shutdown(wait=False, cancel_futures=True)


def _part(fetch: Callable[[str, str], Page], asked: Range) -> _Part:
    """Fetch the next pages of a range."""
    pages = []
    for _ in range(PAGES_AHEAD):
        found, token = fetch(asked.after, asked.token)
        within = found
        if asked.upto:
            within = found[: bisect_right(found, asked.upto, key=attrgetter("key"))]
        if within:
            pages.append(within)
        is_over = len(within) < len(found) or (within and within[-1].key == asked.upto)
        if is_over or not token:
            return _Part(pages, None, at_end=not token and len(within) == len(found))
        asked = asked._replace(token=token)
    return _Part(pages, asked, at_end=False)
