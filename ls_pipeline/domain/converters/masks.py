"""Masks of brushes: from Label Studio's bytes to pixels, and from pixels to runs and outlines.

Label Studio packs the RGBA pixels of a mask with the algorithm of
https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack; only alpha counts.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ls_pipeline.domain.converters.geometry import Box, Point, Size

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    Mask = npt.NDArray[np.uint8]
    """Rows of pixels; 0 is outside."""

MOST_PIXELS = 2**27
"""Pixels of a mask; a larger one would fill the memory."""

MOST_LOOPS = 100
"""Parts and holes of a mask that are joined where they are nearest."""

CHANNELS = 4
BYTE = 8


class MaskError(ValueError):
    """A mask that can't be read."""


def read_mask(value: dict[str, Any], size: Size) -> Mask:
    """Return the mask in a result's value. Raises ``MaskError`` if it can't be read."""
    if isinstance(address := value.get("imageDataURL"), str):
        mask = _read_picture(address)
        if mask.shape != (size.height, size.width):
            raise MaskError("its mask has another size than its picture")
        return mask
    if size.width * size.height > MOST_PIXELS:
        raise MaskError("its picture is too large")
    try:
        packed = bytes([*value["rle"]])
        return _unpack(packed, size.width * size.height).reshape(size.height, size.width)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise MaskError("its mask is damaged") from error


def _read_picture(address: str) -> Mask:
    """Return the mask in a data URL, which a bitmask has."""
    from PIL import Image

    try:
        body = base64.b64decode(address.partition(",")[2], validate=True)
        with Image.open(io.BytesIO(body), formats=["PNG", "JPEG", "WEBP"]) as picture:
            return _alpha(picture)
    except MaskError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaskError("its mask is damaged") from error


def _alpha(picture: Image.Image) -> Mask:
    if picture.width * picture.height > MOST_PIXELS:
        raise MaskError("its picture is too large")
    has_alpha = "A" in picture.getbands()
    return np.array(picture.getchannel("A") if has_alpha else picture.convert("L"), dtype=np.uint8)


def _unpack(packed: bytes, pixels: int) -> Mask:
    """Return the alpha of each pixel."""
    place = 0

    def read(bits: int) -> int:
        nonlocal place
        first, last = place // BYTE, (place + bits + BYTE - 1) // BYTE
        if last > len(packed):
            raise IndexError(place)
        number = int.from_bytes(packed[first:last], "big") >> (last * BYTE - place - bits)
        place += bits
        return number & ((1 << bits) - 1)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if count != pixels * CHANNELS or word != BYTE:
        raise ValueError(f"{count} values of {word} bits")
    alpha = np.zeros(pixels, dtype=np.uint8)
    start = 0
    while start < count:
        is_run = read(1)
        end = min(start + 1 + read(sizes[read(2)]), count)
        if is_run:
            alpha[start // CHANNELS : end // CHANNELS] = read(BYTE)
        else:
            values = _read_bytes(packed, place, end - start)
            place += (end - start) * BYTE
            alpha[start // CHANNELS : end // CHANNELS] = values[3 - start % CHANNELS :: CHANNELS]
        start = end
    return alpha


def _read_bytes(packed: bytes, place: int, count: int) -> Mask:
    """Return bytes that begin at any bit."""
    first, shift = divmod(place, BYTE)
    part = np.frombuffer(packed, np.uint8, count + bool(shift), first).astype(np.uint16)
    if not shift:
        return part.astype(np.uint8)
    return ((part[:-1] << shift | part[1:] >> (BYTE - shift)) & 0xFF).astype(np.uint8)


def runs(mask: Mask) -> list[int]:
    """Return COCO's run lengths: outside, inside, outside …, down the columns."""
    flat = (mask > 0).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def mask_box(mask: Mask) -> Box | None:
    """Return the box around a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    left, right = float(columns[0]), float(columns[-1] + 1)
    return Box(left, float(rows[0]), right, float(rows[-1] + 1))


def outline(mask: Mask) -> list[Point]:
    """Return one polygon along the edges of a mask's pixels.

    Its parts and holes are joined by lines without width, which are drawn there and back.
    """
    loops = _loops(mask)
    if not loops:
        return []
    if len(loops) > MOST_LOOPS:
        starts = [loop[0] for loop in loops]
        return [*(point for loop in loops for point in (*loop, loop[0])), *starts[-2::-1]]
    joined = list(loops[0])
    for loop in loops[1:]:
        near = min(range(len(joined)), key=lambda at: _distance(joined[at], loop[0]))
        start = min(range(len(loop)), key=lambda at: _distance(joined[near], loop[at]))
        turned = [*loop[start:], *loop[: start + 1]]
        joined[near + 1 : near + 1] = [*turned, joined[near]]
    return joined


def _distance(first: Point, second: Point) -> float:
    return (first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2


def _loops(mask: Mask) -> list[list[Point]]:
    """Return the closed lines around a mask's parts and holes, with the inside on the right."""
    inside = np.pad(mask > 0, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge between two pixels, as (row, column) of its start, and its direction.
    for shift, direction, start in (
        ((1, 0), (0, 1), (0, 0)),  # outside above: to the right
        ((0, -1), (1, 0), (0, 1)),  # outside to the right: down
        ((-1, 0), (0, -1), (1, 1)),  # outside below: to the left
        ((0, 1), (-1, 0), (1, 0)),  # outside to the left: up
    ):
        for row, column in np.argwhere(inside & ~np.roll(inside, shift, (0, 1))).tolist():
            place = row - 1 + start[0], column - 1 + start[1]
            edges.setdefault(place, []).append(direction)
    loops = []
    while edges:
        loops.append(_follow(edges))
    return loops


def _follow(edges: dict[tuple[int, int], list[tuple[int, int]]]) -> list[Point]:
    """Remove one closed line from the edges; return its corners."""
    start = place = next(iter(edges))
    direction = edges[start][0]
    corners: list[Point] = []
    before = (0, 0)
    while True:
        there = edges[place]
        if len(there) > 1:  # two parts meet at a corner: stay with this one
            right = (before[1], -before[0])
            direction = right if right in there else there[0]
        else:
            direction = there[0]
        there.remove(direction)
        if not there:
            del edges[place]
        if direction != before:
            corners.append((float(place[1]), float(place[0])))
        place, before = (place[0] + direction[0], place[1] + direction[1]), direction
        if place == start:
            return corners
