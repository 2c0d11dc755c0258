"""Where a listing is cut, and which ranges need no second look."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.diff import Change, Difference, RangeDiff
from ls_pipeline.domain.listing_ranges import FEW, PAGE, Cutting, ListingRange, RangeBoundary
from ls_pipeline.domain.objects import StoredObject


def ranges_of(*sizes):
    """Give ranges of so many objects, one after the other, each with a fingerprint."""
    found, at = [], 0
    for size in sizes:
        objects = [StoredObject(f"{n:06}", "1", 1) for n in range(at, at + size)]
        found.append(ListingRange(objects[-1].key, objects, f"{at} to {at + size}"))
        at += size
    return found


def cut(ranges, unsettled=(), filtered=()):
    cutting = Cutting()
    for listing_range in cutting.through(ranges):
        left_out = [
            Difference(one.key, Change.FILTERED, None, one)
            for one in listing_range.objects
            if one.key in filtered
        ]
        cutting.saw(
            RangeDiff(listing_range.through, len(listing_range.objects) - len(left_out), left_out)
        )
    return cutting.range_boundaries(unsettled)


def test_page_becomes_a_range_of_its_own():
    assert cut(ranges_of(PAGE, 400)) == [
        RangeBoundary("000998", "0 to 999", PAGE),
        RangeBoundary("001398", "999 to 1399", 400),
    ]


def test_what_the_filter_leaves_out_is_counted():
    assert cut(ranges_of(300, 300), filtered=["000001", "000299"])[0].filtered == 2


def test_range_that_was_not_read_stays_as_it_is():
    same = RangeBoundary("b", "print", 700, 3)

    assert cut([ListingRange("b", (), same=same)]) == [same]


def test_small_ranges_are_joined_and_looked_at_again():
    assert cut(ranges_of(10, 20, 30)) == [RangeBoundary("000059", "", 60)]


def test_small_range_stays_beside_one_that_fills_a_page():
    assert [one.listed for one in cut(ranges_of(10, PAGE, 10, PAGE))] == [10, PAGE, 10, PAGE]


def test_page_of_all_there_is_is_cut():
    assert cut(ranges_of(2500)) == [
        RangeBoundary("000998", "", PAGE),
        RangeBoundary("001997", "", PAGE),
        RangeBoundary("002499", "", 502),
    ]


def test_range_with_an_unsettled_key_is_looked_at_again():
    found = cut(ranges_of(500, 500, 500), unsettled=["000500", "000777x", "zzz"])

    assert [one.fingerprint for one in found] == ["0 to 500", "", "1000 to 1500"]


@given(st.lists(st.integers(1, 2 * PAGE), max_size=20))
def test_a_request_lists_each_range_and_few_are_small(sizes):
    found = cut(ranges_of(*sizes))
    pairs = pairwise(found)

    assert sum(one.listed for one in found) == sum(sizes)
    assert all(0 < one.listed <= PAGE for one in found)
    assert all(one.listed >= FEW or one.listed + then.listed > PAGE for one, then in pairs)
