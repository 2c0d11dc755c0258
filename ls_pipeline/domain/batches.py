"""Cuts a sequence into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Return slices of at most ``size`` items; ``itertools.batched`` needs Python 3.12."""
    return (items[start : start + size] for start in range(0, len(items), size))
