"""Where several people labeled one task: who agrees with whom.

Two results agree when they come from the same control, bear the same labels, and, where they
have a place, overlap by half (intersection over union): as boxes on an image, rotation set
aside, or as spans of a text or recording. Texts, numbers and ratings must be equal. Masks and
tracks are compared by their labels alone.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENOUGH = 0.5
"""Intersection over union."""


class Box(NamedTuple):
    """A box or a span; units don't matter, a span is as high as another."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def overlap(self, other: Box) -> float:
        """Give intersection over union, 0 to 1."""
        if self == other:
            return 1.0
        common = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        union = self.area + other.area - common
        return common / union if union > 0 else 0.0


def disagreeing(annotations: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[list[int]]]:
    """Tell for each result of each annotation which other annotations lack its like.

    An annotation is the rows of its results, as `tables.result_rows` gives them. The answer has
    a list for each annotation, of a list for each result, of the others' indices.
    """
    return [
        [
            [
                n
                for n, other in enumerate(annotations)
                if n != number and not any(agree(row, its) for its in other)
            ]
            for row in rows
        ]
        for number, rows in enumerate(annotations)
    ]


def agreement(annotations: Sequence[Sequence[Mapping[str, Any]]]) -> float | None:
    """Give the share of results that pairs of annotations have in common, 0 to 1.

    The mean over all pairs; None of fewer than two annotations. Two empty ones agree.
    """
    shares = []
    for one, other in itertools.combinations(annotations, 2):
        total = len(one) + len(other)
        common = sum(any(agree(row, its) for its in other) for row in one)
        common += sum(any(agree(row, its) for its in one) for row in other)
        shares.append(common / total if total else 1.0)
    return sum(shares) / len(shares) if shares else None


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two rows of results say the same."""
    origin = ("type", "from_name", "to_name", "item_index")
    if any(one[name] != other[name] for name in origin):
        return False
    if sorted(one["labels"] or ()) != sorted(other["labels"] or ()):
        return False
    labeled = one["labels"] is not None
    here, there = _box(one), _box(other)
    if here and there:
        typed = ("text", "number")
        same = labeled or all(one[name] == other[name] for name in typed)
        return same and here.overlap(there) >= ENOUGH
    return labeled or bool(one["value"] == other["value"])


def _box(row: Mapping[str, Any]) -> Box | None:
    """Give the box or span around a result, None when it has no place."""
    if row["points"]:
        xs, ys = zip(*row["points"], strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))
    x, y = row["x"], row["y"]
    if x is not None and y is not None and row["radius_x"] is not None:
        across, down = row["radius_x"], row["radius_y"] or row["radius_x"]
        return Box(x - across, y - down, x + across, y + down)
    if x is not None and y is not None and row["width"] is not None and row["height"] is not None:
        return Box(x, y, x + row["width"], y + row["height"])
    if row["start"] is not None and row["end"] is not None:
        return Box(row["start"], 0.0, row["end"], 1.0)
    return None
