"""YOLO, as Ultralytics reads it: boxes, outlines or key points, or boxes at any angle.

A label file has lines of one kind: a reader takes one line with an outline as the sign that all
lines are outlines. So the label config decides: key points, outlines or boxes
(https://docs.ultralytics.com/datasets). The label file of ``images/a/1.png`` is
``labels/a/1.txt``; that of a picture without a mark is empty.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Literal

from ls_pipeline.domain.converters.geometry import (
    Box,
    Point,
    Size,
    area,
    box_around,
    clip,
    smallest_rectangle,
)
from ls_pipeline.domain.converters.media import IMAGES
from ls_pipeline.domain.converters.pictures import NO_KEY_POINT, PictureReader
from ls_pipeline.domain.converters.regions import ShapeError
from ls_pipeline.domain.converters.shown import KEY_POINT, OUTLINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ls_pipeline.domain.converters.pictures import Marked, Picture
    from ls_pipeline.domain.converters.regions import Region
    from ls_pipeline.domain.converters.shown import ShownConfig
    from ls_pipeline.domain.converters.writer import Setup, Task

    Draw = Callable[[Region, Size], list[float]]

Kind = Literal["detect", "segment", "pose", "obb"]

EVERYTHING = {"train": IMAGES, "val": IMAGES}
"""The splits of a folder without splits."""

CUT = "the part outside of its picture is cut off"
OUTSIDE = "it has no area inside its picture"
ONLY_BOX = "only the box around it is in the output"
HALF = 0.5
"""Pixels that may be cut off without a word: those of the mouse."""


def yolo_kind(config: ShownConfig) -> Kind:
    """Return the kind of the lines that fit a label config."""
    shapes = config.shapes
    if KEY_POINT in shapes:
        return "pose"
    if shapes & set(OUTLINES) or ("ellipse" in shapes and "rectangle" not in shapes):
        return "segment"
    return "detect"


class YoloWriter:
    """Writes a label file for each picture, ``classes.txt`` and ``data.yaml``.

    ``splits`` has the folder of each split's pictures.
    """

    def __init__(
        self,
        setup: Setup,
        kind: Kind | None = None,
        splits: Mapping[str, str] | None = None,
    ) -> None:
        self.setup, self.splits = setup, splits or EVERYTHING
        self.kind = kind or yolo_kind(setup.config)
        self.reader = PictureReader(setup, proportions=True)
        self.key_points = setup.config.key_points if self.kind == "pose" else []

    def add(self, task: Task) -> None:
        for picture in self.reader.read(task.id, task.data, task.annotations, apart=True):
            lines = [line for marked in picture.objects for line in self._lines(picture, marked)]
            self.setup.folder.write(label_path(picture.media.path), "".join(lines))

    def finish(self) -> None:
        import yaml

        names = self.setup.classes.names
        # Without a path, readers look next to the file; "." would be where they were started.
        document: dict[str, object] = {**self.splits}
        if self.key_points:
            document["kpt_shape"] = [len(self.key_points), 3]
            document["kpt_names"] = {number: list(self.key_points) for number in range(len(names))}
        document["names"] = dict(enumerate(names))
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        self.setup.folder.write("data.yaml", text)
        lines = (" ".join(name.split()) + "\n" for name in names)
        self.setup.folder.write("classes.txt", "".join(lines))

    def _lines(self, picture: Picture, marked: Marked) -> list[str]:
        if self.kind == "pose":
            numbers = self._pose(picture, marked)
        elif marked.shape is None:
            self.reader.lose(marked, "the format has no key points")
            return []
        else:
            self.reader.lose_points(marked)
            numbers = self.reader.drawn(picture, marked, self._numbers(marked))
        if numbers is None:
            return []
        self.reader.lose_edges(marked)
        self.reader.lose_attributes(marked)
        text = " ".join(f"{number:.9g}" for number in numbers)
        return [f"{self.setup.classes.index(label)} {text}\n" for label in marked.labels]

    def _numbers(self, marked: Marked) -> Draw:
        draws = {"detect": self._box, "segment": self._outline, "obb": self._oriented}
        draw = draws[self.kind]
        return lambda region, size: draw(marked, region, size)

    def _box(self, marked: Marked, region: Region, size: Size) -> list[float]:
        box = region.box(size)
        if region.kind != "rectangle" or region.rotation % 360:
            self._simplify(marked, ONLY_BOX)
        return _center(self._clipped(marked, box, size), size)

    def _outline(self, marked: Marked, region: Region, size: Size) -> list[float]:
        outline = region.outline(size)
        box = box_around(outline)
        points = outline
        if box.clipped(size) != box:
            points = clip(outline, size)
            self._clipped(marked, box, size)
        # The area of crossing lines may be 0, but not that of the rectangle around them.
        if len(points) < 3 or not area(smallest_rectangle(points)):  # noqa: PLR2004
            raise ShapeError(OUTSIDE)
        return _proportions(points, size)

    def _oriented(self, marked: Marked, region: Region, size: Size) -> list[float]:
        corners = region.oriented(size)
        if region.kind != "rectangle":
            self._simplify(marked, "only the rectangle around it is in the output")
        self._clipped(marked, box_around(corners), size)
        return _proportions(corners, size)

    def _pose(self, picture: Picture, marked: Marked) -> list[float] | None:
        flags = [0.0] * 3 * len(self.key_points)
        places = []
        for name, region in marked.points.items():
            try:
                size = self.reader.size(picture, region)
                x, y = self._point(name, region, size)
            except ShapeError as error:
                for source in region.sources:
                    self.setup.losses.lose(source, str(error))
                continue
            at = 3 * self.key_points.index(name)
            places.append((x / size.width, y / size.height))
            flags[at : at + 3] = [*places[-1], 2]
        if marked.shape:
            box = self.reader.drawn(
                picture, marked, lambda region, size: self._box(marked, region, size)
            )
        elif places:
            box = _center(box_around(places), Size(1, 1))
        else:
            box = None
            self.reader.lose_edges(marked)
        return None if box is None else [*box, *flags]

    def _point(self, name: str, region: Region, size: Size) -> Point:
        if name not in self.key_points:
            raise ShapeError(NO_KEY_POINT)
        x, y = region.point(size)
        if not (0 <= x <= size.width and 0 <= y <= size.height):
            raise ShapeError("it is outside of its picture")
        return x, y

    def _clipped(self, marked: Marked, box: Box, size: Size) -> Box:
        """Return the part of a box inside its picture. Raises ``ShapeError`` if there is none."""
        inside = box.clipped(size)
        if inside.width <= 0 or inside.height <= 0:
            raise ShapeError(OUTSIDE)
        if max(abs(old - new) for old, new in zip(box, inside, strict=True)) > HALF:
            self._simplify(marked, CUT)
        return inside

    def _simplify(self, marked: Marked, reason: str) -> None:
        if marked.shape:
            self.setup.losses.simplify(marked.shape.source, reason)


def label_path(picture: str) -> str:
    """Return the path of a picture's label file."""
    folder, _, rest = picture.partition("/")
    stem = posixpath.splitext(rest)[0]
    return f"{'labels' if folder == IMAGES else folder}/{stem}.txt"


def _center(box: Box, size: Size) -> list[float]:
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return [x / size.width, y / size.height, box.width / size.width, box.height / size.height]


def _proportions(points: Iterable[Point], size: Size) -> list[float]:
    """Return points as shares of a picture's width and height."""
    pairs = ((x / size.width, y / size.height) for x, y in points)
    return [min(max(share, 0.0), 1.0) for pair in pairs for share in pair]
