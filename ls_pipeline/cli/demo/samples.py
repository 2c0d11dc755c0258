"""Sample data for the demo, and its labels. Both are the same every time."""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass
from typing import Any

TEXT_CONFIG = """<View>
  <Header value="What does the customer think?"/>
  <Text name="review" value="$text"/>
  <Choices name="sentiment" toName="review" choice="single" showInLine="true">
    <Choice value="Positive"/>
    <Choice value="Negative"/>
    <Choice value="Neutral"/>
  </Choices>
</View>
"""

PICTURE_CONFIG = """<View>
  <Header value="Draw a box around each shape."/>
  <Image name="picture" value="$image"/>
  <RectangleLabels name="shape" toName="picture">
    <Label value="Circle" background="#d1495b"/>
    <Label value="Square" background="#00798c"/>
    <Label value="Triangle" background="#edae49"/>
  </RectangleLabels>
</View>
"""

WIDTH, HEIGHT = 640, 400
"""The size of a picture in pixels."""

_THINGS = ("lamp", "kettle", "tent", "keyboard", "rain jacket", "bicycle bell")
_OPINIONS = {
    "Positive": ("works beautifully", "is worth every cent", "made my day"),
    "Negative": ("broke after a week", "came without its screws", "is a disappointment"),
    "Neutral": ("does what it says", "is what I ordered", "came on a Tuesday"),
}
BACKGROUND = "#f4f1ea"
COLORS = {"Circle": "#d1495b", "Square": "#00798c", "Triangle": "#edae49"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape in a picture. Position and size are in pixels."""

    kind: str
    x: int
    y: int
    size: int


def texts(count: int) -> list[tuple[str, bytes]]:
    """Return keys and bodies of ``count`` objects with one text task each.

    Every second task is bare data; the others are in Label Studio's task format.
    """
    objects = []
    for number in range(count):
        data = {"text": _review(number)}
        task = data if number % 2 else {"data": data, "meta": {"shop": f"shop-{number % 3}"}}
        objects.append((f"reviews/review-{number:03}.json", json.dumps(task).encode()))
    return objects


def table(count: int) -> tuple[str, bytes]:
    """Return key and body of one object with ``count`` text tasks: the rows of a CSV file."""
    lines = ["order,text", *(f"{number:04},{_review(number)}" for number in range(count))]
    return "answers.csv", "".join(f"{line}\n" for line in lines).encode()


def _review(number: int) -> str:
    rng = random.Random(number)  # noqa: S311 - sample data
    opinion = rng.choice(_OPINIONS[rng.choice(list(_OPINIONS))])
    return f"The {rng.choice(_THINGS)} {opinion}."


def pictures(count: int) -> list[tuple[str, bytes]]:
    """Return keys and bodies of ``count`` PNG pictures."""
    return [(f"shapes/picture {number:03}.png", _draw(number)) for number in range(count)]


def shapes(number: int) -> list[Shape]:
    """Return the shapes in a picture: one to three, side by side."""
    rng = random.Random(number)  # noqa: S311 - sample data
    drawn = []
    for column in range(rng.randint(1, 3)):
        size = rng.randint(80, 160)
        x = column * WIDTH // 3 + rng.randint(10, WIDTH // 3 - size - 10)
        drawn.append(Shape(rng.choice(list(COLORS)), x, rng.randint(20, HEIGHT - size - 20), size))
    return drawn


def label(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotation of a sample task, in the form of Label Studio's ``result``."""
    if "text" in data:
        opinion = next(
            name
            for name, phrases in _OPINIONS.items()
            if any(phrase in data["text"] for phrase in phrases)
        )
        return [_region("sentiment", "review", "choices", {"choices": [opinion]})]
    number = int(data["image"].rpartition(" ")[2].removesuffix(".png"))
    return [_box(shape) for shape in shapes(number)]


def _box(shape: Shape) -> dict[str, Any]:
    value = {
        "x": 100 * shape.x / WIDTH,
        "y": 100 * shape.y / HEIGHT,
        "width": 100 * shape.size / WIDTH,
        "height": 100 * shape.size / HEIGHT,
        "rotation": 0,
        "rectanglelabels": [shape.kind],
    }
    box = _region("shape", "picture", "rectanglelabels", value)
    return {**box, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}


def _region(control: str, data_tag: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": control, "to_name": data_tag, "type": kind, "value": value}


def _draw(number: int) -> bytes:
    from PIL import Image, ImageDraw  # of the extra `demo`

    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for shape in shapes(number):
        left, top = shape.x, shape.y
        right, bottom = left + shape.size, top + shape.size
        color = COLORS[shape.kind]
        if shape.kind == "Circle":
            pen.ellipse((left, top, right, bottom), color)
        elif shape.kind == "Square":
            pen.rectangle((left, top, right, bottom), color)
        else:
            pen.polygon(((left + right) / 2, top, right, bottom, left, bottom), color)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
