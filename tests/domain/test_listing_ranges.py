"""Comparing a listing range by range, and where the next listing is cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.diff import Change, State, diff
from ls_pipeline.domain.listing_ranges import (
    FEW,
    PAGE,
    BoundaryTracker,
    ListingRange,
    RangeBoundary,
    RangeDiff,
    diff_ranges,
)
from ls_pipeline.domain.objects import Filter, StoredObject
from tests.domain.test_diff import ALL, keys, known, listed, versions


def ranges_of(*sizes):
    """Return consecutive ranges of these sizes, each with a fingerprint."""
    ranges, start = [], 0
    for size in sizes:
        objects = [StoredObject(f"{n:06}", "1", 1) for n in range(start, start + size)]
        fingerprint = f"{start} to {start + size}"
        ranges.append(ListingRange(objects[-1].key, objects, fingerprint))
        start += size
    return ranges


def cut(ranges, unfinished=(), select=ALL):
    tracker = BoundaryTracker()
    for range_diff in diff_ranges(lambda *_: (), ranges, select):
        tracker.record(range_diff)
    return tracker.range_boundaries(unfinished)


def test_page_becomes_a_range_of_its_own():
    assert cut(ranges_of(PAGE, 400)) == [
        RangeBoundary("000998", "0 to 999", PAGE),
        RangeBoundary("001398", "999 to 1399", 400),
    ]


def test_filtered_objects_are_counted():
    select = Filter("", "000[013-9]")

    assert [item.filtered for item in cut(ranges_of(300, 300), select=select)] == [100, 0]


def test_unchanged_range_keeps_its_boundary():
    same = RangeBoundary("b", "print", 700, 3)

    assert cut([ListingRange("b", (), same=same)]) == [same]


def test_small_ranges_are_joined_and_lose_their_fingerprint():
    assert cut(ranges_of(10, 20, 30)) == [RangeBoundary("000059", "", 60)]


def test_small_range_is_not_joined_with_a_full_page():
    assert [item.listed for item in cut(ranges_of(10, PAGE, 10, PAGE))] == [10, PAGE, 10, PAGE]


def test_page_with_everything_is_cut():
    assert cut(ranges_of(2500)) == [
        RangeBoundary("000998", "", PAGE),
        RangeBoundary("001997", "", PAGE),
        RangeBoundary("002499", "", 502),
    ]


def test_range_with_an_unfinished_key_loses_its_fingerprint():
    boundaries = cut(ranges_of(500, 500, 500), unfinished=["000500", "000777x", "zzz"])

    assert [item.fingerprint for item in boundaries] == ["0 to 500", "", "1000 to 1500"]


@given(st.lists(st.integers(1, 2 * PAGE), max_size=20))
def test_a_request_lists_each_range_and_few_are_small(sizes):
    boundaries = cut(ranges_of(*sizes))
    pairs = pairwise(boundaries)

    assert sum(item.listed for item in boundaries) == sum(sizes)
    assert all(0 < item.listed <= PAGE for item in boundaries)
    assert all(left.listed >= FEW or left.listed + right.listed > PAGE for left, right in pairs)


def paged(items, size):
    return [items[at : at + size] for at in range(0, len(items), size)]


states = st.dictionaries(keys, st.tuples(st.sampled_from("12"), st.sampled_from(State)))
sizes = st.integers(1, 5)


def pages_of(was, size):
    """Return the function that `diff_ranges` asks for pages of what is known."""

    def between(after, through):
        return paged(
            [item for item in was if item.key > after and (item.key <= through or not through)],
            size,
        )

    return between


@given(states, versions, sizes, sizes, st.sampled_from(["", "[a-z]"]))
def test_ranges_differ_as_their_objects_do(was, now, known_size, listed_size, regex):
    was = [known(key, *was[key]) for key in sorted(was)]
    now = [listed(key, now[key]) for key in sorted(now)]
    ranges = [ListingRange(page[-1].key, page) for page in paged(now, listed_size)]
    range_diffs = list(diff_ranges(pages_of(was, known_size), ranges, Filter("", regex)))
    by_object = list(diff(was, now, Filter("", regex)))
    changed = [item for item in by_object if item.change is not Change.UNCHANGED]
    completed = [range_diff.completed for range_diff in range_diffs if range_diff.completed]

    assert [item for range_diff in range_diffs for item in range_diff.differences] == changed
    assert sum(range_diff.unchanged for range_diff in range_diffs) == len(by_object) - len(changed)
    assert [item.through for item in range_diffs] == sorted({item.through for item in range_diffs})
    assert completed == ranges


def test_unchanged_range_is_not_compared():
    same = RangeBoundary("b", "print", listed=2, filtered=1)
    ranges = [ListingRange("b", (), same=same), ListingRange("c", [listed("c")])]
    pages = pages_of([known("a"), known("gone"), known("x")], 1)
    first, *others = diff_ranges(pages, ranges, ALL)

    assert first == RangeDiff("b", 1, [], 1, ranges[0])
    assert [item.key for other in others for item in other.differences] == ["c", "gone", "x"]


def test_comparison_begins_after_a_key():
    ranges = [ListingRange("c", [listed("c")])]
    pages = pages_of([known("a"), known("c")], 5)

    assert list(diff_ranges(pages, ranges, ALL, after="b")) == [
        RangeDiff("c", 1, [], completed=ranges[0])
    ]
