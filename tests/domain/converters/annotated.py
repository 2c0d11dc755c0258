"""Random annotations of pictures, and what they mean, computed in another way than in the code."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

CONFIG = """<View><Image name="i" value="$image"/>
<RectangleLabels name="box" toName="i"><Label value="car" category="1"/><Label value="a bus"/>
</RectangleLabels>{more}</View>"""
MORE = """<EllipseLabels name="round" toName="i"><Label value="wheel"/></EllipseLabels>
<PolygonLabels name="area" toName="i"><Label value="roof" alias="top"/></PolygonLabels>
<BrushLabels name="brush" toName="i"><Label value="rust"/><Label value="car"/></BrushLabels>"""
BOXES = CONFIG.format(more="")
SHAPES = CONFIG.format(more=MORE)
LABELS = {
    "rectangle": ["car", "a bus"],
    "ellipse": ["wheel"],
    "polygon": ["top"],
    "brush": ["rust", "car"],
}
NAMES = {"rectangle": "box", "ellipse": "round", "polygon": "area", "brush": "brush"}
CLASSES = ["car", "a bus", "wheel", "top", "rust"]


@dataclass
class Drawn:
    """A region: what was drawn, in pixels."""

    kind: str
    labels: list[str]
    result: dict
    outline: np.ndarray
    """Corners, or points of the outline."""
    mask: np.ndarray | None = None

    @property
    def box(self):
        if self.mask is not None:
            rows, columns = np.nonzero(self.mask)
            return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return [*self.outline.min(axis=0), *self.outline.max(axis=0)]


def turned(offsets, degrees, around):
    """Return points that turn around another, as complex numbers do: y points down."""
    turn = cmath.rect(1, math.radians(degrees))
    return np.array([(z.real, z.imag) for z in (around + offset * turn for offset in offsets)])


def pack(alpha, *, runs):
    """Return Label Studio's bytes of a mask (rle-pack), of runs or of single values."""
    values = np.repeat(alpha.ravel(), 4).tolist()
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    start = 0
    while start < len(values):
        end = start + 1
        while (
            end < len(values) and end - start < 256 and (values[end] == values[start] or not runs)
        ):
            end += 1
        bits += [f"{runs:b}", "10", f"{end - start - 1:08b}"]
        bits += [f"{value:08b}" for value in values[start : start + 1 if runs else end]]
        start = end
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


@st.composite
def drawn(draw, size, kinds, number, *, turns=True):
    """Return a region inside a picture of a size."""
    width, height = size
    kind = draw(st.sampled_from(kinds))
    labels = draw(st.lists(st.sampled_from(LABELS[kind]), min_size=1, unique=True))
    percent = st.floats(30, 60)
    x, y = draw(percent), draw(percent)
    rotation = draw(st.sampled_from([0, 0, 30, 90, 200.5, 359])) if turns else 0
    z = complex(x * width / 100, y * height / 100)
    mask = None
    if kind == "rectangle":
        w, h = draw(st.floats(1, 10)), draw(st.floats(1, 10))
        value = {"x": x, "y": y, "width": w, "height": h, "rotation": rotation}
        across, down = w * width / 100, h * height / 100
        offsets = [0, across, complex(across, down), complex(0, down)]
        outline = turned(offsets, rotation, z)
    elif kind == "ellipse":
        w, h = draw(st.floats(1, 10)), draw(st.floats(1, 10))
        value = {"x": x, "y": y, "radiusX": w, "radiusY": h, "rotation": rotation}
        angles = np.linspace(0, 2 * math.pi, 1000)
        across, down = w * width / 100, h * height / 100
        offsets = [complex(across * math.cos(a), down * math.sin(a)) for a in angles]
        outline = turned(offsets, rotation, z)
    elif kind == "polygon":
        radii = draw(st.lists(st.floats(5, 20), min_size=3, max_size=6))
        points = [
            [x + radius * math.cos(angle), y + radius * math.sin(angle)]
            for number, radius in enumerate(radii)
            for angle in [2 * math.pi * number / len(radii)]
        ]
        value = {"points": points, "closed": True}
        outline = np.array(points) * [width / 100, height / 100]
    else:
        bits = draw(st.lists(st.booleans(), min_size=12, max_size=12).filter(any))
        mask = np.zeros((height, width), np.uint8)
        mask[2:5, 3:7] = np.array(bits).reshape(3, 4) * 255
        value = {"format": "rle", "rle": pack(mask, runs=draw(st.booleans()))}
        outline = np.zeros((0, 2))
    type_ = f"{kind}labels"
    result = {
        "id": f"r{number}",
        "type": type_,
        "from_name": NAMES[kind],
        "to_name": "i",
        "original_width": width,
        "original_height": height,
        "image_rotation": draw(st.sampled_from([0, 90])),
        "value": {**value, type_: labels},
    }
    return Drawn(kind, labels, result, outline, mask)


@st.composite
def tasks(draw, kinds, *, turns=True):
    """Return tasks with a picture each, and the regions of each."""
    made = []
    for task_id in range(1, draw(st.integers(1, 3)) + 1):
        size = draw(st.tuples(st.integers(40, 90), st.integers(40, 90)))
        count = draw(st.integers(0, 3))
        regions = [draw(drawn(size, kinds, number, turns=turns)) for number in range(count)]
        made.append((task(task_id, [region.result for region in regions]), size, regions))
    return made


def task(task_id, results, **more):
    """Return a task with one annotation."""
    annotation = {"id": 10 + task_id, "completed_by": 1, "was_cancelled": False, "result": results}
    data = {"image": f"s3://b/{task_id}.png"}
    return {"id": task_id, "data": data, "annotations": [{**annotation, **more}]}
