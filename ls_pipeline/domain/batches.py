"""Cuts a sequence into batches, and a range until its pieces are small enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Return slices of at most ``size`` items; ``itertools.batched`` needs Python 3.12."""
    return (items[start : start + size] for start in range(0, len(items), size))


def sized_batches(items: Iterable[T], size_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Return lists of items in order, each of at most ``most`` bytes together, or a single item."""
    batch, total = list[T](), 0
    for item in items:
        size = size_of(item)
        if batch and total + size > most:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def halves(first: int, last: int, fits: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """Return the ranges, in order, that are left if a range is halved until each piece fits.

    A range includes its last number. A single number stays, even if it does not fit.
    """
    if first == last or fits(first, last):
        yield first, last
        return
    middle = (first + last) // 2
    yield from halves(first, middle, fits)
    yield from halves(middle + 1, last, fits)
