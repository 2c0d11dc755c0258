"""A file for the mask of each brush: a grey picture, or an array of NumPy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np

from ls_pipeline.domain.converters.media import plain, shortened
from ls_pipeline.domain.converters.pictures import PictureReader

if TYPE_CHECKING:
    from ls_pipeline.domain.converters.geometry import Size
    from ls_pipeline.domain.converters.masks import Mask
    from ls_pipeline.domain.converters.pictures import Marked, Picture
    from ls_pipeline.domain.converters.regions import Region
    from ls_pipeline.domain.converters.writer import Setup, Task

LENGTH = 30
"""Bytes of each part of a file's name: file systems take 255 of a name."""


class MaskWriter:
    """Writes a file for each mask and label, with 0 outside."""

    def __init__(self, setup: Setup, kind: Literal["png", "npy"]) -> None:
        self.setup, self.kind = setup, kind
        self.reader = PictureReader(setup)

    def add(self, task: Task) -> None:
        pictures = self.reader.read(task.id, task.data, task.annotations, apart=False)
        for number, picture in enumerate(pictures):
            place = str(number) if len(pictures) > 1 else ""
            for position, marked in enumerate(picture.objects):
                self._add_object(picture, marked, [place, str(position)])

    def finish(self) -> None:
        """Write nothing more."""

    def _add_object(self, picture: Picture, marked: Marked, places: list[str]) -> None:
        mask = self.reader.drawn(picture, marked, _mask)
        if mask is None:
            if marked.shape is None:
                self.reader.lose(marked, "the format has no key points")
            return
        self.reader.lose_points(marked)
        self.reader.lose_attributes(marked)
        person = marked.annotation.get("completed_by")
        person = person.get("email") if isinstance(person, dict) else person
        control = marked.shape.from_name if marked.shape else ""
        begin = ["task", picture.task_id, "annotation", marked.annotation.get("id"), "by", person]
        for number, label in enumerate(marked.labels):
            several = str(number) if len(marked.labels) > 1 else ""
            parts = [*begin, control, label, *filter(None, [*places, several])]
            names = (plain(str(part)) for part in parts if part is not None)
            name = "-".join(shortened(each, LENGTH) for each in names)
            self.setup.folder.write(f"{name}.{self.kind}", _bytes(mask, self.kind))


def _mask(region: Region, size: Size) -> Mask:
    from ls_pipeline.domain.converters.regions import ShapeError

    if region.kind != "brush":
        raise ShapeError("it is not a brush")
    return region.mask(size)


def _bytes(mask: Mask, kind: Literal["png", "npy"]) -> bytes:
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, mask)
    else:
        from PIL import Image

        Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()
