"""Pascal VOC: an XML file with boxes for each picture.

Pixels count from 1, and a box includes its last ones (the development kit of VOC2012).
"""

from __future__ import annotations

import math
import posixpath
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from ls_pipeline.domain.converters.pictures import PictureReader
from ls_pipeline.domain.converters.regions import ShapeError
from ls_pipeline.domain.converters.yolo import CUT, HALF, ONLY_BOX, OUTSIDE

if TYPE_CHECKING:
    from ls_pipeline.domain.converters.geometry import Size
    from ls_pipeline.domain.converters.pictures import Marked, Picture
    from ls_pipeline.domain.converters.regions import Region
    from ls_pipeline.domain.converters.writer import Setup, Task

PARTS = 6
"""Decimals of a pixel that count."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class VocWriter:
    """Writes an XML file for each picture."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.reader = PictureReader(setup)

    def add(self, task: Task) -> None:
        for picture in self.reader.read(task.id, task.data, task.annotations, apart=True):
            folder, _, name = picture.media.path.partition("/")
            root = ET.Element("annotation")
            _text(root, "folder", folder)
            _text(root, "filename", name)
            _text(root, "path", picture.file_name)
            _text(ET.SubElement(root, "source"), "database", "Label Studio")
            if picture.size:
                size = ET.SubElement(root, "size")
                for side, pixels in zip(("width", "height"), picture.size, strict=True):
                    _text(size, side, str(pixels))
                _text(size, "depth", "3")
            _text(root, "segmented", "0")
            for marked in picture.objects:
                self._add_object(root, picture, marked)
            ET.indent(root)
            path = f"Annotations/{posixpath.splitext(name)[0]}.xml"
            self.setup.folder.write(path, ET.tostring(root, encoding="unicode") + "\n")

    def finish(self) -> None:
        """Write nothing more."""

    def _add_object(self, root: ET.Element, picture: Picture, marked: Marked) -> None:
        if marked.shape is None:
            self.reader.lose(marked, "the format has no key points")
            return
        pixels = self.reader.drawn(picture, marked, self._pixels)
        if pixels is None:
            return
        self.reader.lose_points(marked)
        self.reader.lose_attributes(marked)
        for label in marked.labels:
            element = ET.SubElement(root, "object")
            _text(element, "name", label)
            _text(element, "pose", "Unspecified")
            _text(element, "truncated", "0")
            _text(element, "difficult", "0")
            box = ET.SubElement(element, "bndbox")
            for name, pixel in zip(("xmin", "ymin", "xmax", "ymax"), pixels, strict=True):
                _text(box, name, str(pixel))

    def _pixels(self, region: Region, size: Size) -> list[int]:
        """Return the first and last pixels that a region touches."""
        box = region.box(size)
        inside = box.clipped(size)
        if inside.width <= 0 or inside.height <= 0:
            raise ShapeError(OUTSIDE)
        if region.kind != "rectangle" or region.rotation % 360:
            self.setup.losses.simplify(region.source, ONLY_BOX)
        if max(abs(old - new) for old, new in zip(box, inside, strict=True)) > HALF:
            self.setup.losses.simplify(region.source, CUT)
        left, top, right, bottom = (round(side, PARTS) for side in inside)
        first = math.floor(left) + 1, math.floor(top) + 1
        last = math.ceil(right), math.ceil(bottom)
        return [*map(min, first, last), *last]


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = _NOT_XML.sub("\ufffd", text)
