from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.batches import batches, halves, sized_batches


@given(st.lists(st.integers(0, 20)), st.integers(1, 30))
def test_sized_batches_are_small_or_single(sizes, most):
    found = list(sized_batches(sizes, int, most))

    assert [size for batch in found for size in batch] == sizes
    assert all(sum(batch) <= most or len(batch) == 1 for batch in found)


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(1, 30))
def test_halves_fit_or_are_single(sizes, most):
    ranges = list(
        halves(0, len(sizes) - 1, lambda first, last: sum(sizes[first : last + 1]) <= most)
    )
    found = [sizes[first : last + 1] for first, last in ranges]

    assert [size for batch in found for size in batch] == sizes
    assert all(sum(batch) <= most or len(batch) == 1 for batch in found)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_batches_are_the_whole(items, size):
    found = list(batches(items, size))

    assert [item for batch in found for item in batch] == items
    assert all(0 < len(batch) <= size for batch in found)
