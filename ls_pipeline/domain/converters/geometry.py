"""Shapes in pixels: corners, outlines, boxes.

Label Studio stores percentages of the picture's width and height, and angles in degrees, clockwise.
A rectangle turns around its top left corner, an ellipse around its center. Both turn in pixels: on
a picture that is not square, percentages of x and y have different lengths. ``image_rotation`` is
how an annotator looked at the picture; it changes no coordinate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Point = tuple[float, float]

MOST_CORNERS = 1000
"""Corners of an outline, and heights in it, up to which crossing lines are looked for."""

SAGITTA = 0.1
"""Pixels that the outline of an ellipse may be off by."""


class Size(NamedTuple):
    """The size of a picture in pixels, as the annotator saw it."""

    width: int
    height: int

    def pixels(self, x: float, y: float) -> Point:
        """Return a point that is in percent."""
        return x * self.width / 100, y * self.height / 100


class Box(NamedTuple):
    """A box with sides parallel to the picture's."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def corners(self) -> list[Point]:
        return [
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        ]

    def clipped(self, size: Size) -> Box:
        """Return the part inside a picture."""
        left, right = (min(max(x, 0.0), float(size.width)) for x in (self.left, self.right))
        top, bottom = (min(max(y, 0.0), float(size.height)) for y in (self.top, self.bottom))
        return Box(left, top, right, bottom)


def rectangle(box: Sequence[float], rotation: float, size: Size) -> list[Point]:
    """Return the corners of a rectangle: x, y, width and height in percent, clockwise."""
    left, top = size.pixels(box[0], box[1])
    width, height = size.pixels(box[2], box[3])
    if not rotation % 360:
        return Box(left, top, left + width, top + height).corners
    turn = _turn(rotation, (left, top))
    return [turn(x, y) for x, y in ((0, 0), (width, 0), (width, height), (0, height))]


def ellipse(center: Point, radii: Point, rotation: float, size: Size) -> list[Point]:
    """Return the outline of an ellipse, at most `SAGITTA` off."""
    turn = _turn(rotation, size.pixels(*center))
    across, down = (abs(radius) for radius in size.pixels(*radii))
    largest = max(across, down, SAGITTA)
    count = math.ceil(math.pi / math.acos(1 - min(SAGITTA / largest, 1)))
    count = min(max(4 * math.ceil(count / 4), 64), 720)
    angles = (2 * math.pi * number / count for number in range(count))
    return [turn(across * math.cos(angle), down * math.sin(angle)) for angle in angles]


def ellipse_rectangle(center: Point, radii: Point, rotation: float, size: Size) -> list[Point]:
    """Return the corners of the rectangle around an ellipse, turned with it."""
    turn = _turn(rotation, size.pixels(*center))
    across, down = (abs(radius) for radius in size.pixels(*radii))
    return [turn(x, y) for x, y in Box(-across, -down, across, down).corners]


def ellipse_box(center: Point, radii: Point, rotation: float, size: Size) -> Box:
    """Return the box around an ellipse."""
    x, y = size.pixels(*center)
    across, down = size.pixels(*radii)
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    half_width = math.hypot(across * cosine, down * sine)
    half_height = math.hypot(across * sine, down * cosine)
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def box_around(points: Sequence[Point]) -> Box:
    """Return the box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return Box(min(xs), min(ys), max(xs), max(ys))


def area(points: Sequence[Point]) -> float:
    """Return the area of a polygon."""
    following = [*points[1:], *points[:1]]
    cross = (x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True))
    return abs(math.fsum(cross)) / 2


def filled_area(points: Sequence[Point]) -> float:
    """Return the area that readers fill: what lines enclose an odd number of times.

    An outline with very many corners or crossings has the area of `area`.
    """
    if len(points) > MOST_CORNERS:
        return area(points)
    levels = np.array(sorted({y for _, y in points} | _crossings(points)))
    if len(levels) > MOST_CORNERS:
        return area(points)
    # Between two levels no lines cross: the part of the area there has straight sides.
    (x, y), (u, v) = np.array(points).T, np.roll(points, -1, 0).T
    middle = ((levels[:-1] + levels[1:]) / 2)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = x + (u - x) * (middle - y) / (v - y)
    sides = np.sort(np.where((y < middle) != (v < middle), sides, np.inf))
    sides[np.isinf(sides)] = 0
    return float(np.diff(levels) @ (sides[:, 1::2].sum(1) - sides[:, ::2].sum(1)))


def _crossings(points: Sequence[Point]) -> set[float]:
    """Return the heights at which lines of an outline cross."""
    start = np.array(points)
    line = np.roll(start, -1, 0) - start
    apart = start[None] - start[:, None]
    # For each two lines: how far along the first one the second one crosses it.
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = line[:, None, 0] * line[None, :, 1] - line[:, None, 1] * line[None, :, 0]
        along = (apart[..., 0] * line[None, :, 1] - apart[..., 1] * line[None, :, 0]) / turn
    is_inside = (along > 0) & (along < 1)
    first, second = np.nonzero(is_inside & is_inside.T)
    return set((start[first, 1] + along[first, second] * line[first, 1]).tolist())


def clip(points: Sequence[Point], size: Size) -> list[Point]:
    """Return the part of a polygon inside a picture (Sutherland and Hodgman)."""
    kept = list(points)
    for axis, limit, sign in ((0, 0.0, 1), (0, size.width, -1), (1, 0.0, 1), (1, size.height, -1)):
        kept = _cut(kept, axis, float(limit), sign)
    return kept


def _cut(points: Sequence[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """Return the part of a polygon on one side of a line."""
    kept: list[Point] = []
    for before, point in zip([*points[-1:], *points[:-1]], points, strict=True):
        inside = sign * (point[axis] - limit) >= 0
        if inside != (sign * (before[axis] - limit) >= 0):
            share = (limit - before[axis]) / (point[axis] - before[axis])
            x, y = (start + share * (end - start) for start, end in zip(before, point, strict=True))
            kept.append((limit, y) if axis == 0 else (x, limit))
        if inside:
            kept.append(point)
    return kept


def smallest_rectangle(points: Sequence[Point]) -> list[Point]:
    """Return the corners of the smallest rectangle around points, at any angle."""
    hull = _hull(points)
    if len(hull) < 3:  # noqa: PLR2004 - a line
        return box_around(points).corners
    best: tuple[float, list[Point]] | None = None
    for (x, y), (u, v) in zip(hull, [*hull[1:], hull[0]], strict=True):
        angle = math.degrees(math.atan2(v - y, u - x))
        upright = [_turn(-angle, (0.0, 0.0))(*point) for point in hull]
        box = box_around(upright)
        if best is None or box.width * box.height < best[0]:
            turn = _turn(angle, (0.0, 0.0))
            best = box.width * box.height, [turn(*corner) for corner in box.corners]
    return best[1] if best else box_around(points).corners


def _hull(points: Sequence[Point]) -> list[Point]:
    """Return the convex hull (Andrew's monotone chain)."""
    ordered = sorted(set(points))

    def chain(some: Sequence[Point]) -> list[Point]:
        kept: list[Point] = []
        for point in some:
            while len(kept) > 1 and _cross(kept[-2], kept[-1], point) <= 0:
                kept.pop()
            kept.append(point)
        return kept[:-1]

    return chain(ordered) + chain(ordered[::-1])


def _cross(origin: Point, first: Point, second: Point) -> float:
    (x, y), (u, v), (s, t) = origin, first, second
    return (u - x) * (t - y) - (v - y) * (s - x)


def _turn(degrees: float, around: Point) -> Callable[[float, float], Point]:
    """Return what turns an offset clockwise (y points down) and adds it to a point."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = around
    return lambda across, down: (
        x + across * cosine - down * sine,
        y + across * sine + down * cosine,
    )
