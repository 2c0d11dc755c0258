"""Which annotators of the same task agree.

Two results agree if they come from the same control and have the same labels. If they have a
place, the places must also overlap by half (intersection over union): boxes on an image, without
their rotation, or spans of a text, paragraph, recording or timeline. A point is a square around
it. Texts, numbers and ratings must be equal. Masks and tracks are compared by their labels only.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENOUGH = 0.5
"""Minimum intersection over union."""

PARAGRAPH = 1e6
"""More characters than a paragraph has, so that all paragraphs fit on one axis."""

POINT = 5.0
"""Width and height of the square around a point, in % of the image."""


class Box(NamedTuple):
    """A box or a span, in any units; all spans have the same height."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def overlap(self, other: Box) -> float:
        """Return the intersection over union, 0 to 1."""
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
    """Return, for each result of each annotation, which other annotations lack such a result.

    An annotation is a list of rows from `tables.result_row`. The value has a list per annotation,
    with a list per result, of the other annotations' indices.
    """
    results = [[_Result(row) for row in rows] for rows in annotations]
    by_kind = [_group_by_kind(own) for own in results]
    return [
        [
            [
                other
                for other, groups in enumerate(by_kind)
                if other != index
                and not any(result.agrees(its) for its in groups.get(result.kind, ()))
            ]
            for result in own
        ]
        for index, own in enumerate(results)
    ]


def mean_agreement(disagreements: Sequence[Sequence[Sequence[int]]]) -> float | None:
    """Return the mean share of results that two annotations have in common, 0 to 1.

    ``disagreements`` comes from `find_disagreements`. None for fewer than two annotations. Two
    empty annotations agree.
    """
    shares = []
    for first, second in itertools.combinations(range(len(disagreements)), 2):
        total = len(disagreements[first]) + len(disagreements[second])
        common = sum(second not in lacking for lacking in disagreements[first])
        common += sum(first not in lacking for lacking in disagreements[second])
        shares.append(common / total if total else 1.0)
    return sum(shares) / len(shares) if shares else None


class _Result:
    """The parts of a result that decide whether another agrees."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        labels = row["labels"]
        self.kind = (
            *(row[name] for name in ("type", "from_name", "to_name", "item_index")),
            None if labels is None else tuple(sorted(labels)),
        )
        self.content = None if labels is not None else (row["text"], row["number"])
        self.value = None if labels is not None else row["value"]
        self.box = _box(row)

    def agrees(self, other: _Result) -> bool:
        """Return whether another result of the same kind has the same content and place."""
        if self.box and other.box:
            return self.content == other.content and self.box.overlap(other.box) >= ENOUGH
        return self.value == other.value


def _group_by_kind(results: Sequence[_Result]) -> dict[object, list[_Result]]:
    groups: dict[object, list[_Result]] = {}
    for result in results:
        groups.setdefault(result.kind, []).append(result)
    return groups


def _box(row: Mapping[str, Any]) -> Box | None:
    """Return the box or span around a result; None if it has no place."""
    if row["points"]:
        xs, ys = zip(*row["points"], strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))
    if row["x"] is not None and row["y"] is not None:
        return _around(row, row["x"], row["y"])
    return _frames(row["value"]) if row["type"] == "timelinelabels" else _span(row)


def _around(row: Mapping[str, Any], x: float, y: float) -> Box | None:
    if row["radius_x"] is not None:
        half_width, half_height = row["radius_x"], row["radius_y"] or row["radius_x"]
    elif row["width"] is not None and row["height"] is not None:
        return Box(x, y, x + row["width"], y + row["height"])
    elif row["type"] == "keypointlabels":
        half_width = half_height = POINT / 2
    else:
        return None
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def _span(row: Mapping[str, Any]) -> Box | None:
    start, end = row["start"], row["end"]
    if start is None or end is None:
        return None
    if row["type"] == "paragraphlabels" and None not in {row["start_offset"], row["end_offset"]}:
        start = start * PARAGRAPH + row["start_offset"]
        end = end * PARAGRAPH + row["end_offset"]
    return Box(start, 0.0, end, 1.0)


def _frames(value: str | None) -> Box | None:
    """Return the span of the first range of frames."""
    try:
        first = json.loads(value or "null")["ranges"][0]
        return Box(float(first["start"]), 0.0, float(first["end"]), 1.0)
    except (TypeError, ValueError, LookupError, OverflowError):
        return None
