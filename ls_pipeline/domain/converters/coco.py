"""COCO: boxes, polygons, masks and key points (https://cocodataset.org/#format-data).

Ids of annotations and classes begin at 1: COCO's evaluation takes a match with annotation 0 for
none, and models take class 0 for the background.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters import geometry
from ls_pipeline.domain.converters.geometry import Box, Point, Size, box_around
from ls_pipeline.domain.converters.masks import mask_box, runs
from ls_pipeline.domain.converters.pictures import NO_KEY_POINT, PictureReader
from ls_pipeline.domain.converters.regions import ShapeError

if TYPE_CHECKING:
    from ls_pipeline.domain.converters.pictures import Marked, Picture
    from ls_pipeline.domain.converters.regions import Region
    from ls_pipeline.domain.converters.writer import Setup, Task

VISIBLE = 2
"""COCO's flag of a key point that is labeled and visible."""


class CocoWriter:
    """Writes one COCO file, in which each picture occurs once."""

    def __init__(self, setup: Setup, path: str = "result.json") -> None:
        self.setup, self.path = setup, path
        self.reader = PictureReader(setup)
        self.key_points = setup.config.key_points
        self._images, self._annotations = setup.folder.spool(), setup.folder.spool()
        self._edges = set[tuple[int, int]]()
        """Pairs of key points that relations connect."""

    def add(self, task: Task) -> None:
        for picture in self.reader.read(task.id, task.data, task.annotations, apart=False):
            image: dict[str, Any] = {"id": self._images.count, "file_name": picture.file_name}
            if picture.size:
                image |= {"width": picture.size.width, "height": picture.size.height}
            self._images.write(json.dumps({**image, "coco_url": picture.uri, "task_id": task.id}))
            for marked in picture.objects:
                self._add_object(picture, marked)

    def finish(self) -> None:
        skeleton = [[first + 1, second + 1] for first, second in sorted(self._edges)]
        points = {"keypoints": self.key_points, "skeleton": skeleton} if self.key_points else {}
        categories = [
            {"id": number, "name": name, "supercategory": "", **points}
            for number, name in enumerate(self.setup.classes.names, 1)
        ]
        with self.setup.folder.open(self.path) as stream:
            stream.write('{"info": {"description": "Label Studio"}, "licenses": [],\n')
            stream.write(f'"categories": {json.dumps(categories)},\n"images": [\n')
            self._images.copy_to(stream, ",\n")
            stream.write('\n],\n"annotations": [\n')
            self._annotations.copy_to(stream, ",\n")
            stream.write("\n]}\n")

    def _add_object(self, picture: Picture, marked: Marked) -> None:
        if marked.shape:
            form = self.reader.drawn(picture, marked, _form)
        else:
            form = self._form_of_points(picture, marked)
        if form is None:
            return
        if self.key_points:
            form |= self._points(picture, marked)
        if marked.attributes:
            form["attributes"] = marked.attributes
        if marked.shape and marked.shape.notes:
            form["notes"] = marked.shape.notes
        form["annotation_id"] = marked.annotation.get("id")
        form["completed_by"] = marked.annotation.get("completed_by")
        form["result_id"] = marked.shape.id if marked.shape else None
        for label in marked.labels:
            ids = {
                "id": self._annotations.count + 1,
                "image_id": self._images.count - 1,
                "category_id": self.setup.classes.index(label) + 1,
            }
            self._annotations.write(json.dumps({**ids, **form, "iscrowd": 0}))

    def _form_of_points(self, picture: Picture, marked: Marked) -> dict[str, Any] | None:
        regions = marked.points.values()
        try:
            box = box_around([each.point(self.reader.size(picture, each)) for each in regions])
        except ShapeError as error:
            self.reader.lose(marked, str(error))
            return None
        return {**_box(box), "area": box.width * box.height, "segmentation": []}

    def _points(self, picture: Picture, marked: Marked) -> dict[str, Any]:
        points = [0.0] * 3 * len(self.key_points)
        for name, region in marked.points.items():
            if point := self._point(picture, name, region):
                at = 3 * self.key_points.index(name)
                points[at : at + 3] = [*point, VISIBLE]
        for source, *names in marked.edges:
            if all(name in self.key_points for name in names):
                first, second = sorted(map(self.key_points.index, names))
                self._edges.add((first, second))
            else:
                self.setup.losses.lose(source, NO_KEY_POINT)
        count = sum(flag == VISIBLE for flag in points[2::3])
        return {"keypoints": points, "num_keypoints": count}

    def _point(self, picture: Picture, name: str, region: Region) -> Point | None:
        """Return the position of a key point; None if it is lost."""
        try:
            if name in self.key_points:
                return region.point(self.reader.size(picture, region))
            reason = NO_KEY_POINT
        except ShapeError as error:
            reason = str(error)
        for source in region.sources:
            self.setup.losses.lose(source, reason)
        return None


def _form(region: Region, size: Size) -> dict[str, Any]:
    """Return the shape of a region, as COCO has it."""
    if region.kind == "brush":
        mask = region.mask(size)
        box = mask_box(mask)
        if box is None:
            raise ShapeError("its mask is empty")
        rows, columns = mask.shape
        segmentation: Any = {"size": [rows, columns], "counts": runs(mask)}
        return {**_box(box), "area": int((mask > 0).sum()), "segmentation": segmentation}
    outline = region.outline(size)
    polygon = [number for point in outline for number in point]
    is_drawn_freely = region.kind in {"polygon", "vector"}
    area = geometry.filled_area(outline) if is_drawn_freely else geometry.area(outline)
    return {**_box(region.box(size)), "area": area, "segmentation": [polygon]}


def _box(box: Box) -> dict[str, Any]:
    return {"bbox": [box.left, box.top, box.width, box.height]}
