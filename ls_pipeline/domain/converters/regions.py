"""Results as regions: a shape, its labels, and what else was said about it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters import geometry
from ls_pipeline.domain.converters.choice import results_of
from ls_pipeline.domain.converters.geometry import Box, Point, Size
from ls_pipeline.domain.converters.lost import Source, source_of
from ls_pipeline.domain.converters.masks import MaskError, mask_box, outline, read_mask
from ls_pipeline.domain.converters.shown import KEY_POINT, SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ls_pipeline.domain.converters.masks import Mask

ATTRIBUTES = ("choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise")
"""Types of results that say something about a region, or about the whole task."""

CORNERS = 3
"""Points that a polygon has at least."""

FAR = 10**6
"""Percent of a picture's side; a shape that is as far away, or as large, is a mistake."""

MOST_SIDE = 10**6
"""Pixels of a picture's side."""

_SIDES = {"x", "y", "width", "height", "radiusX", "radiusY", "rotation"}
GEOMETRY = frozenset(_SIDES | {"points", "vertices", "rle", "imageDataURL"})
"""What a value says of a shape. All results about one region have the same."""


NOT_NUMBERS = "its coordinates are not numbers"


class ShapeError(ValueError):
    """A shape that can't be drawn; the message says why."""


@dataclass(slots=True)
class Region:
    """A region of one annotation: the results that share an id."""

    source: Source
    """The result with its shape."""
    sources: list[Source]
    """All results about it."""
    id: str
    parent: str
    to_name: str
    from_name: str
    """The control that labeled it, or else the one that drew it."""
    index: int
    """Position of its picture in a list; else 0."""
    kind: str
    """``rectangle``, ``polygon``, ``ellipse``, ``brush``, ``keypoint`` or ``vector``."""
    value: Mapping[str, Any]
    labels: list[str]
    own_size: Size | None
    annotation: Mapping[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    """Control → what it says about the region."""
    attribute_sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What annotators noted about it."""

    def point(self, size: Size) -> Point:
        """Return the position of a key point, in pixels."""
        return size.pixels(*self._numbers("x", "y"))

    def box(self, size: Size) -> Box:
        """Return the box around it, in pixels. Raises ``ShapeError`` if it can't be drawn."""
        if self.kind == "ellipse":
            x, y, across, down = self._numbers("x", "y", "radiusX", "radiusY")
            return geometry.ellipse_box((x, y), (across, down), self.rotation, size)
        if self.kind == "brush":
            if (box := mask_box(self.mask(size))) is None:
                raise ShapeError("its mask is empty")
            return box
        return geometry.box_around(self.outline(size))

    def outline(self, size: Size) -> list[Point]:
        """Return its outline, in pixels. Raises ``ShapeError`` if it can't be drawn."""
        if self.kind == "rectangle":
            sides = self._numbers("x", "y", "width", "height")
            return geometry.rectangle(sides, self.rotation, size)
        if self.kind == "ellipse":
            x, y, across, down = self._numbers("x", "y", "radiusX", "radiusY")
            return geometry.ellipse((x, y), (across, down), self.rotation, size)
        if self.kind == "brush":
            if not (points := outline(self.mask(size))):
                raise ShapeError("its mask is empty")
            return points
        corners = [size.pixels(x, y) for x, y in self._points()]
        if len(corners) < CORNERS:
            raise ShapeError("its polygon has fewer than three points")
        return corners

    def oriented(self, size: Size) -> list[Point]:
        """Return the corners of a rectangle around it, at its own angle, in pixels."""
        if self.kind == "rectangle":
            return self.outline(size)
        if self.kind == "ellipse":
            x, y, across, down = self._numbers("x", "y", "radiusX", "radiusY")
            return geometry.ellipse_rectangle((x, y), (across, down), self.rotation, size)
        return geometry.smallest_rectangle(self.outline(size))

    def mask(self, size: Size) -> Mask:
        """Return the mask of a brush. Raises ``ShapeError`` if it can't be read."""
        try:
            return read_mask(dict(self.value), size)
        except MaskError as error:
            raise ShapeError(str(error)) from error

    @property
    def rotation(self) -> float:
        return number(self.value.get("rotation")) or 0.0

    @property
    def needs_size(self) -> bool:
        """Whether even its proportions need the picture's size."""
        return self.kind == "brush" or bool(self.rotation % 360)

    def _numbers(self, *names: str) -> list[float]:
        found = [number(self.value.get(name)) for name in names]
        return [_coordinate(each) for each in found]

    def _points(self) -> Iterator[Point]:
        if self.kind == "vector" and not self.value.get("closed"):
            raise ShapeError("it is an open line")
        points = self.value.get("points") or self.value.get("vertices")
        for point in points if isinstance(points, list) else []:
            pair = [point.get("x"), point.get("y")] if isinstance(point, dict) else point
            xy = [number(each) for each in pair] if isinstance(pair, (list, tuple)) else []
            if len(xy) != 2:  # noqa: PLR2004
                raise ShapeError(NOT_NUMBERS)
            yield _coordinate(xy[0]), _coordinate(xy[1])


@dataclass(slots=True)
class Results:
    """The results of one annotation, sorted."""

    regions: list[Region]
    relations: list[tuple[Source, str, str]]
    """With the ids of the regions that each connects."""
    others: list[tuple[Source, Mapping[str, Any]]]
    """Results that are about no shape: choices, texts, spans."""
    unreadable: list[Source]


def read_results(task_id: Any, annotation: Mapping[str, Any]) -> Results:
    """Return the results of an annotation, with those about one region put together."""
    results = Results([], [], [], [])
    groups: dict[object, list[tuple[Source, dict[str, Any]]]] = {}
    for position, item in enumerate(results_of(annotation)):
        result = item if isinstance(item, dict) else {}
        source = source_of(task_id, annotation, position, result)
        if source.kind == "relation":
            start, end = (str(result.get(name) or "") for name in ("from_id", "to_id"))
            results.relations.append((source, start, end))
        elif not isinstance(result.get("value"), dict):
            results.unreadable.append(source)
        else:
            groups.setdefault(source.result_id or position, []).append((source, result))
    for group in groups.values():
        for about_one in _apart(group):
            _add_group(results, about_one, annotation)
    return results


def _apart(
    group: list[tuple[Source, dict[str, Any]]],
) -> list[list[tuple[Source, dict[str, Any]]]]:
    """Return the results about each region: people import several regions with one id.

    What is said without a place is about the first.
    """
    is_shaped = [bool(shape_of(source.kind, result["value"])) for source, result in group]
    if sum(is_shaped) < 2:  # noqa: PLR2004 - one region
        return [group]
    places = [_place(result) for _, result in group]
    found = dict.fromkeys(place for place, shaped in zip(places, is_shaped, strict=True) if shaped)
    found.pop("", None)
    parts: dict[str, list[tuple[Source, dict[str, Any]]]] = {place: [] for place in found}
    first = next(iter(parts), "")
    for place, each in zip(places, group, strict=True):
        parts.setdefault(place if place in parts else first, []).append(each)
    return list(parts.values())


def _place(result: Mapping[str, Any]) -> str:
    """Return what is equal for the results about one region; empty without a place."""
    value = result["value"]
    names = GEOMETRY if value.get("rotation") else GEOMETRY - {"rotation"}
    place = {name: value[name] for name in sorted(names & value.keys())}
    return json.dumps([result.get("to_name"), _index(result), place]) if place else ""


def _add_group(
    results: Results, group: list[tuple[Source, dict[str, Any]]], annotation: Mapping[str, Any]
) -> None:
    shaped = [
        (kind, source, result)
        for source, result in group
        if (kind := shape_of(source.kind, result["value"]))
    ]
    if not shaped:
        results.others += group
        return
    kind, source, drawn = min(shaped, key=lambda each: each[1].kind == "labels")
    labels: list[str] = []
    from_name = str(drawn.get("from_name") or "")
    region = Region(
        source=source,
        sources=[],
        id=source.result_id,
        parent=str(drawn.get("parentID") or ""),
        to_name=str(drawn.get("to_name") or ""),
        from_name=from_name,
        index=_index(drawn),
        kind=kind,
        value=drawn["value"],
        labels=labels,
        own_size=size_of(drawn),
        annotation=annotation,
    )
    for source_, result in group:
        region.parent = region.parent or str(result.get("parentID") or "")
        region.notes += [note for note in notes_in(result) if note not in region.notes]
        if source_.kind.endswith("labels"):
            found = labels_in(result)
            region.from_name = str(result.get("from_name") or "") if found else region.from_name
            labels += [label for label in found if label not in labels]
            region.sources.append(source_)
        elif shape_of(source_.kind, result["value"]):
            region.sources.append(source_)
        elif source_.kind in ATTRIBUTES:
            name = str(result.get("from_name") or source_.kind)
            value = said(result)
            if name in region.attributes:
                before = region.attributes[name]
                value = [*(before if isinstance(before, list) else [before]), value]
            region.attributes[name] = value
            region.attribute_sources.append(source_)
        else:
            results.others.append((source_, result))
    results.regions.append(region)


def shape_of(type_: str, value: Mapping[str, Any]) -> str:
    """Return the kind of a result's shape; empty if it has none on a picture."""
    kind = type_.removesuffix("labels")
    if kind in {"brush", "magicwand", "bitmask"}:
        return "brush"
    if kind in {*SHAPES, KEY_POINT}:
        return kind
    if kind:
        return ""
    forms = {"rle": "brush", "points": "polygon", "vertices": "vector", "radiusX": "ellipse"}
    found = next((form for name, form in forms.items() if name in value), "")
    if not found and "x" in value and "y" in value:
        found = "rectangle" if "height" in value else KEY_POINT
    return found


def labels_in(result: Mapping[str, Any]) -> list[str]:
    """Return the labels of a result."""
    found = result["value"].get(str(result.get("type")))
    found = found if isinstance(found, list) else [found]
    texts = (label for label in found if isinstance(label, str) and label.strip())
    return list(dict.fromkeys(texts))


def notes_in(result: Mapping[str, Any]) -> list[str]:
    """Return what annotators noted about a region, which Label Studio has in its ``meta``."""
    meta = result.get("meta")
    notes = meta.get("text") if isinstance(meta, dict) else None
    notes = notes if isinstance(notes, list) else [notes]
    return [note for note in notes if isinstance(note, str) and note]


def said(result: Mapping[str, Any]) -> Any:
    """Return what a result says: a choice, a text, a number, or a list of them."""
    value = result["value"]
    names = {"textarea": "text", "pairwise": "selected"}
    found = value.get(names.get(str(result["type"]), str(result["type"])), value)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def size_of(result: Mapping[str, Any]) -> Size | None:
    """Return the size of a result's picture, as the annotator saw it."""
    sizes = [number(result.get(name)) for name in ("original_width", "original_height")]
    if all(size is not None and 1 <= size <= MOST_SIDE for size in sizes):
        return Size(*(round(size) for size in sizes if size is not None))
    return None


def number(value: object) -> float | None:
    """Return a number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _coordinate(found: float | None) -> float:
    if found is None:
        raise ShapeError(NOT_NUMBERS)
    if abs(found) > FAR:
        raise ShapeError("it is far outside of its picture")
    return found


def _index(result: Mapping[str, Any]) -> int:
    index = result.get("item_index", result["value"].get("item_index"))
    return index if isinstance(index, int) else 0
