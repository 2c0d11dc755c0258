"""Listings that are put together from several requests."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.errors import BucketError, BucketUnavailableError
from ls_pipeline.domain.listing_ranges import PAGE, BoundaryTracker, RangeBoundary, diff_ranges
from ls_pipeline.domain.objects import Filter, StoredObject
from ls_pipeline.resources.listing import (
    PAGES_AHEAD,
    PARALLEL_RANGES,
    ListingPage,
    list_ranges,
)
from tests.contracts.memory_bucket import MemoryBucket

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=4)
few = st.text("ab/\x00é😀", min_size=1, max_size=3)


class Store:
    """Lists ``keys`` in pages of ``size``; a page at an index in ``empty`` has no object."""

    def __init__(self, names, size=1000, empty=()):
        self.keys, self.size, self.empty = sorted(names, key=str.encode), size, empty
        self.requests = []
        self.lock = threading.Lock()

    def fetch(self, after, token, limit):
        with self.lock:
            self.requests.append((after, token))
        last, _, hidden = token.partition("|")
        first = bisect_right(self.keys, last or after)
        if first in self.empty and not hidden:
            return ListingPage(f"{last or after}|hidden", list)
        end = first + min(self.size, limit)
        page = [StoredObject(key, "1", 1) for key in self.keys[first:end]]
        more = end < len(self.keys)
        return ListingPage(page[-1].key if more else "", lambda: page, str(page) if page else "")


def cut_at(keys):
    return [RangeBoundary(key) for key in keys]


def ranges(store, after="", range_boundaries=()):
    return list(list_ranges("s3://b/", store.fetch, after, range_boundaries))


def listed(store, after="", range_boundaries=()):
    return [
        stored.key
        for listing_range in ranges(store, after, range_boundaries)
        for stored in listing_range.objects
    ]


def boundaries_after_run(store, range_boundaries=()):
    """List as a run without changes does; return the range boundaries."""
    tracker = BoundaryTracker()
    for range_diff in diff_ranges(lambda *_: (), ranges(store, "", range_boundaries), Filter()):
        tracker.record(range_diff)
    return tracker.range_boundaries(())


@given(
    st.sets(keys | few, max_size=60).map(lambda names: {name.replace("|", "") for name in names}),
    st.integers(1, 7),
    st.sets(st.integers(0, 60)),
    st.lists(keys | few, max_size=30),
    st.just("") | few,
)
def test_listing_is_the_same_whatever_the_boundaries(names, size, empty, range_boundaries, after):
    names.discard("")
    store = Store(names, size, empty)
    expected = [key for key in store.keys if key > after]

    assert listed(store, after) == expected
    assert listed(store, after, cut_at(sorted(range_boundaries))) == expected
    assert listed(store, after, cut_at(range_boundaries)) == expected


@pytest.mark.parametrize("after_run", [False, True])
def test_fitting_range_boundaries_cost_no_request(after_run):
    names = [f"{n:06}" for n in range(100 * PAGE)]
    ends = names[PAGE - 1 :: PAGE]
    boundaries = boundaries_after_run(Store(names, PAGE)) if after_run else cut_at(ends)
    store = Store(names, PAGE)
    through = [listing_range.through for listing_range in ranges(store, "", boundaries)]

    assert through == ends
    assert Counter(after for after, _ in store.requests) == Counter(["", *ends[:-1]])


def test_short_listing_is_one_request():
    store = Store(["a", "b"])

    assert (listed(store, range_boundaries=cut_at("ab")), store.requests) == (
        ["a", "b"],
        [("", "")],
    )


def test_first_page_is_requested_alone():
    store = Store([f"{n:06}" for n in range(5000)])
    next(list_ranges("s3://b/", store.fetch, "", cut_at(store.keys[998::999])))

    assert store.requests == [("", "")]


def test_prefetched_pages_are_bounded():
    store = Store([f"{n:06}" for n in range(200_000)], 100)
    pages = list_ranges("s3://b/", store.fetch, "", cut_at(store.keys[998::999]))
    taken = sum(1 for _page, _ in zip(pages, range(500), strict=False))
    pages.close()

    assert len(store.requests) <= taken + (PARALLEL_RANGES + 1) * PAGES_AHEAD


def test_pages_before_a_failure_are_returned():
    store = Store([f"{n:06}" for n in range(5000)])

    def fetch(after, token, limit):
        if after == store.keys[2999]:
            raise OSError
        return store.fetch(after, token, limit)

    objects = []
    with pytest.raises(OSError):  # noqa: PT011, PT012
        for listing_range in list_ranges("s3://b/", fetch, "", cut_at(store.keys[499::500])):
            objects += listing_range.objects

    assert [stored.key for stored in objects] == store.keys[:3000]


names_of = st.sets(st.integers(0, 200), max_size=60)


@given(names_of, names_of, st.integers(1, 20))
def test_ranges_are_unread_only_if_nothing_changed(before, after, size):
    old_keys, new_keys = ([f"{n:04}" for n in sorted(numbers)] for numbers in (before, after))
    range_boundaries = boundaries_after_run(Store(old_keys, size))
    listed_ranges = ranges(Store(new_keys, size), "", range_boundaries)
    at, keys = "", []
    for listing_range in listed_ranges:
        if listing_range.same:
            keys += [key for key in old_keys if at < key <= listing_range.through]
        keys += [stored.key for stored in listing_range.objects]
        at = listing_range.through

    assert keys == new_keys


def test_unchanged_ranges_are_not_read():
    names = [f"{n:06}" for n in range(100 * PAGE)]
    range_boundaries = boundaries_after_run(Store(names))
    listed_ranges = ranges(store := Store([*names, "new"]), "", range_boundaries)

    assert [
        list(listing_range.objects) for listing_range in listed_ranges if listing_range.objects
    ] == [[StoredObject("new", "1", 1)]]
    assert len(store.requests) == 101


def test_only_the_range_that_grew_is_read():
    names = [f"{n:06}" for n in range(10 * PAGE)]
    range_boundaries = boundaries_after_run(Store(names))
    listed_ranges = ranges(Store([*names, "002000x"]), "", range_boundaries)

    assert [
        listing_range.through for listing_range in listed_ranges if listing_range.same
    ] == names[PAGE - 1 :: PAGE][:2] + (names[PAGE - 1 :: PAGE][3:])


def test_range_boundaries_converge():
    names = [f"{n:06}" for n in range(10 * PAGE)]
    range_boundaries = boundaries_after_run(Store(names))
    store = Store(sorted([*names[5:4000], *names[4100:], "002000x"]))
    for _ in range(3):
        range_boundaries = boundaries_after_run(store, range_boundaries)
    listed_ranges = ranges(store, "", range_boundaries)

    assert all(listing_range.same for listing_range in listed_ranges)
    assert len(listed_ranges) == len(range_boundaries) <= 12


@pytest.mark.parametrize("size", [4, 2])
def test_keys_in_another_order_are_an_error(size):
    objects = [StoredObject(key, "1", 1) for key in ("a/1", "a/2", "a-1", "a-2")]

    def fetch(_after, token, _limit):
        begin = int(token or 0)
        more = begin + size < len(objects)
        return ListingPage(str(begin + size) if more else "", lambda: objects[begin : begin + size])

    with pytest.raises(BucketError, match=r"^s3://b/: the store does not list keys in the order"):
        list(list_ranges("s3://b/", fetch))


def page_of(numbers, token):
    page = [StoredObject(f"{number:04}", "1", 1) for number in numbers]
    return ListingPage(token, lambda: page, str(page))


def answering(*pages):
    """Return a store that answers with these pages of numbers, whatever is asked."""
    left = [page_of(page, str(at)) for at, page in enumerate(pages, 1)]
    left[-1] = left[-1]._replace(token="")
    return lambda *_: left.pop(0)


def test_page_delivered_twice_is_skipped():
    ranges = list(list_ranges("s3://b/", answering([1, 2], [1, 2], [3])))

    assert [listing_range.through for listing_range in ranges] == ["0002", "0003"]


pages_of_numbers = st.builds(
    lambda begin, size: [*range(begin, begin + size)], st.integers(0, 2000), st.integers(1, 1500)
)


@given(st.lists(pages_of_numbers, min_size=1, max_size=5))
@settings(max_examples=60)
def test_pages_that_repeat_or_overlap_neither_double_nor_remove(pages):
    """Or the listing ends with our error, if its pages go back."""
    every = sorted({number for page in pages for number in page})
    known = [KnownObject(f"{number:04}", "1", 1, State.LOADED) for number in every]
    tracker, range_diffs = BoundaryTracker(), []
    with suppress(BucketError):
        for range_diff in diff_ranges(
            lambda after, through: [
                [
                    item
                    for item in known
                    if after < item.key and (item.key <= through or not through)
                ]
            ],
            list_ranges("s3://b/", answering(*pages), ""),
            Filter(),
        ):
            tracker.record(range_diff)
            range_diffs.append(range_diff)
        assert [item for range_diff in range_diffs for item in range_diff.differences] == []
        assert sum(range_diff.unchanged for range_diff in range_diffs) == len(every)
    ends = [boundary.key for boundary in tracker.range_boundaries(())]

    assert ends == sorted(set(ends))


@pytest.mark.parametrize("known", [True, False])
def test_unchanged_page_delivered_twice_is_skipped(known):
    names = [f"{n:04}" for n in range(600)]
    store = Store(names, 300)
    boundaries = boundaries_after_run(store) if known else ()
    first = store.fetch("", "", 300)
    answers = [first, first]

    def fetch(after, token, limit):
        return answers.pop(0) if answers else store.fetch(after, token, limit)

    tracker = BoundaryTracker()
    for range_diff in diff_ranges(
        lambda *_: (), list_ranges("s3://b/", fetch, "", boundaries), Filter()
    ):
        tracker.record(range_diff)

    assert [boundary.key for boundary in tracker.range_boundaries(())] == ["0299", "0599"]


def test_listing_without_an_end_is_an_error():
    tokens = map(str, count(1))

    def fetch(*_):
        return page_of([1, 2], next(tokens))

    with pytest.raises(BucketUnavailableError, match="lists the same keys again and again"):
        list(list_ranges("s3://b/", fetch))


def test_store_that_ignores_tokens_is_an_error():
    bucket = MemoryBucket()
    bucket.put("a", b"", "text/plain")
    bucket._list = lambda *_: ListingPage("next", list)

    with pytest.raises(BucketUnavailableError, match="lists the same keys again and again"):
        list(bucket.pages())
