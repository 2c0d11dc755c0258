"""Sample data for the demo, made here, the same every time; and who labels it."""

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
"""Pixels of a picture."""

_THINGS = ("lamp", "kettle", "tent", "keyboard", "rain jacket", "bicycle bell")
_OPINIONS = {
    "Positive": ("works beautifully", "is worth every cent", "made my day"),
    "Negative": ("broke after a week", "came without its screws", "is a disappointment"),
    "Neutral": ("does what it says", "is what I ordered", "came on a Tuesday"),
}
BACKGROUND = "#f4f1ea"
COLOURS = {"Circle": "#d1495b", "Square": "#00798c", "Triangle": "#edae49"}


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape in a picture; place and size in pixels."""

    kind: str
    x: int
    y: int
    size: int


def texts(count: int) -> list[tuple[str, bytes]]:
    """Make the objects of a bucket with ``count`` text tasks, one task each.

    Bare tasks and tasks in Label Studio's form take turns.
    """
    made = []
    for number in range(count):
        chance = random.Random(number)  # noqa: S311 - sample data
        opinion = chance.choice(_OPINIONS[chance.choice(list(_OPINIONS))])
        data = {"text": f"The {chance.choice(_THINGS)} {opinion}."}
        task = data if number % 2 else {"data": data, "meta": {"shop": f"shop-{number % 3}"}}
        made.append((f"reviews/review-{number:03}.json", json.dumps(task).encode()))
    return made


def pictures(count: int) -> list[tuple[str, bytes]]:
    """Make the objects of a bucket with ``count`` PNG pictures."""
    return [(f"shapes/picture {number:03}.png", _draw(number)) for number in range(count)]


def shapes(number: int) -> list[Shape]:
    """Give the shapes in a picture: three at the most, side by side."""
    chance = random.Random(number)  # noqa: S311 - sample data
    found = []
    for column in range(chance.randint(1, 3)):
        size = chance.randint(80, 160)
        x = column * WIDTH // 3 + chance.randint(10, WIDTH // 3 - size - 10)
        found.append(
            Shape(chance.choice(list(COLOURS)), x, chance.randint(20, HEIGHT - size - 20), size)
        )
    return found


def label(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotate a sample task as a person would; give Label Studio's ``result``."""
    if "text" in data:
        opinion = next(
            name for name, said in _OPINIONS.items() if any(part in data["text"] for part in said)
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


def _region(control: str, shown: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": control, "to_name": shown, "type": kind, "value": value}


def _draw(number: int) -> bytes:
    from PIL import Image, ImageDraw  # comes with the demo's servers

    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for shape in shapes(number):
        left, top = shape.x, shape.y
        right, bottom = left + shape.size, top + shape.size
        colour = COLOURS[shape.kind]
        if shape.kind == "Circle":
            pen.ellipse((left, top, right, bottom), colour)
        elif shape.kind == "Square":
            pen.rectangle((left, top, right, bottom), colour)
        else:
            pen.polygon(((left + right) / 2, top, right, bottom, left, bottom), colour)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
