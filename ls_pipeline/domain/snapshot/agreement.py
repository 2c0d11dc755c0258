"""Where several people labeled one task: who agrees with whom.

Two results agree when they come from the same control, bear the same labels, and, where they
have a place, overlap by half (intersection over union): as boxes on an image, rotation set
aside, or as spans of a text, paragraph, recording or timeline. A point is a square around it.
Texts, numbers and ratings must be equal. Masks and tracks are compared by their labels alone.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENOUGH = 0.5
"""Intersection over union."""

PARAGRAPH = 1e6
"""More characters than one has, so that all are on one line."""

POINT = 5.0
"""How wide and high the square around a point is, in % of the image."""


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


def find_disagreements(annotations: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[list[int]]]:
    """Tell for each result of each annotation which other annotations lack its like.

    An annotation is the rows of its results, as `tables.result_row` gives them. The answer has
    a list for each annotation, of a list for each result, of the others' indices.
    """
    found = [[_Found(row) for row in rows] for rows in annotations]
    alike = [_by_kind(rows) for rows in found]
    return [
        [
            [
                n
                for n, others in enumerate(alike)
                if n != number and not any(one.agrees(its) for its in others.get(one.kind, ()))
            ]
            for one in rows
        ]
        for number, rows in enumerate(found)
    ]


def agreement(lacking: Sequence[Sequence[Sequence[int]]]) -> float | None:
    """Give the share of results that pairs of annotations have in common, 0 to 1.

    ``lacking`` is what `find_disagreements` gives. The mean over all pairs; None of fewer than two
    annotations. Two empty ones agree.
    """
    shares = []
    for one, other in itertools.combinations(range(len(lacking)), 2):
        total = len(lacking[one]) + len(lacking[other])
        common = sum(other not in who for who in lacking[one])
        common += sum(one not in who for who in lacking[other])
        shares.append(common / total if total else 1.0)
    return sum(shares) / len(shares) if shares else None


class _Found:
    """A result, as far as others may agree with it."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        labels = row["labels"]
        self.kind = (
            *(row[name] for name in ("type", "from_name", "to_name", "item_index")),
            None if labels is None else tuple(sorted(labels)),
        )
        self.said = None if labels is not None else (row["text"], row["number"])
        self.value = None if labels is not None else row["value"]
        self.box = _box(row)

    def agrees(self, other: _Found) -> bool:
        """Tell whether another result of the same kind says the same."""
        if self.box and other.box:
            return self.said == other.said and self.box.overlap(other.box) >= ENOUGH
        return self.value == other.value


def _by_kind(rows: Sequence[_Found]) -> dict[object, list[_Found]]:
    found: dict[object, list[_Found]] = {}
    for one in rows:
        found.setdefault(one.kind, []).append(one)
    return found


def _box(row: Mapping[str, Any]) -> Box | None:
    """Give the box or span around a result, None when it has no place."""
    if row["points"]:
        xs, ys = zip(*row["points"], strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))
    if row["x"] is not None and row["y"] is not None:
        return _around(row, row["x"], row["y"])
    return _frames(row["value"]) if row["type"] == "timelinelabels" else _span(row)


def _around(row: Mapping[str, Any], x: float, y: float) -> Box | None:
    if row["radius_x"] is not None:
        across, down = row["radius_x"], row["radius_y"] or row["radius_x"]
    elif row["width"] is not None and row["height"] is not None:
        return Box(x, y, x + row["width"], y + row["height"])
    elif row["type"] == "keypointlabels":
        across = down = POINT / 2
    else:
        return None
    return Box(x - across, y - down, x + across, y + down)


def _span(row: Mapping[str, Any]) -> Box | None:
    start, end = row["start"], row["end"]
    if start is None or end is None:
        return None
    if row["type"] == "paragraphlabels" and None not in {row["start_offset"], row["end_offset"]}:
        start = start * PARAGRAPH + row["start_offset"]
        end = end * PARAGRAPH + row["end_offset"]
    return Box(start, 0.0, end, 1.0)


def _frames(value: str | None) -> Box | None:
    """Give the span of the first range of frames."""
    try:
        first = json.loads(value or "null")["ranges"][0]
        return Box(float(first["start"]), 0.0, float(first["end"]), 1.0)
    except (TypeError, ValueError, LookupError):
        return None
