"""Listings put together from requests."""

from __future__ import annotations

import threading
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.listing import LANES, PAGES_AHEAD, Page, in_order, noting

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=4)
few = st.text("ab/\x00é😀", min_size=1, max_size=3)


class Store:
    """Lists ``keys`` in pages of ``size``, the ones at ``empty`` places without an object."""

    def __init__(self, names, size=1000, empty=()):
        self.keys, self.size, self.empty = sorted(names, key=str.encode), size, empty
        self.asked = []
        self.lock = threading.Lock()

    def fetch(self, after, token):
        with self.lock:
            self.asked.append((after, token))
        last, _, hidden = token.partition("|")
        first = bisect_right(self.keys, last or after)
        if first in self.empty and not hidden:
            return Page([], f"{last or after}|hidden")
        some = self.keys[first : first + self.size]
        more = first + self.size < len(self.keys)
        return Page([StoredObject(key, "1", 1) for key in some], some[-1] if more else "")


def listed(store, after="", milestones=()):
    return [one.key for page in in_order(store.fetch, after, milestones) for one in page]


@given(
    st.sets(keys | few, max_size=60).map(lambda names: {name.replace("|", "") for name in names}),
    st.integers(1, 7),
    st.sets(st.integers(0, 60)),
    st.lists(keys | few, max_size=30),
    st.just("") | few,
)
def test_listing_is_the_same_whatever_the_milestones(names, size, empty, milestones, after):
    names.discard("")
    store = Store(names, size, empty)
    expected = [key for key in store.keys if key > after]

    assert listed(store, after) == expected
    assert listed(store, after, sorted(milestones)) == expected
    assert listed(store, after, milestones) == expected


def test_milestones_that_fit_cost_no_request_more():
    names = [f"{n:06}" for n in range(100 * 999)]
    store = Store(names)
    found = listed(store, milestones=names[998::999])

    assert (found, len(store.asked)) == (names, 101)


def test_short_listing_is_one_request():
    store = Store(["a", "b"])

    assert (listed(store, milestones=["a", "b"]), store.asked) == (["a", "b"], [("", "")])


def test_first_page_is_asked_for_alone():
    store = Store([f"{n:06}" for n in range(5000)])
    next(in_order(store.fetch, "", store.keys[998::999]))

    assert store.asked == [("", "")]


def test_what_waits_is_bounded():
    store = Store([f"{n:06}" for n in range(200_000)], 100)
    pages = in_order(store.fetch, "", store.keys[998::999])
    taken = sum(1 for _page, _ in zip(pages, range(500), strict=False))
    pages.close()

    assert len(store.asked) <= taken + (LANES + 1) * PAGES_AHEAD


def test_pages_before_a_failure_are_given():
    store = Store([f"{n:06}" for n in range(5000)])

    def fetch(after, token):
        if after == store.keys[2999]:
            raise OSError
        return store.fetch(after, token)

    found = []
    with pytest.raises(OSError):  # noqa: PT011, PT012
        for page in in_order(fetch, "", store.keys[999::1000]):
            found += page

    assert [one.key for one in found] == store.keys[:3000]


@given(st.integers(0, 5000), st.integers(1, 1500))
def test_noted_milestones_lie_a_page_apart(count, size):
    names = [f"{n:06}" for n in range(count)]
    milestones = []
    passed = list(noting(milestones, in_order(Store(names, size).fetch)))

    assert [one.key for page in passed for one in page] == names
    assert milestones == names[998::999]
