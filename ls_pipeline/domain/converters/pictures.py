"""The pictures of a task, and the objects that were marked on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ls_pipeline.domain.converters.geometry import Size
from ls_pipeline.domain.converters.media import IMAGES, MediaFile, file_name
from ls_pipeline.domain.converters.regions import Region, Results, ShapeError, read_results
from ls_pipeline.domain.converters.shown import KEY_POINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ls_pipeline.domain.converters.choice import Annotation
    from ls_pipeline.domain.converters.lost import Source
    from ls_pipeline.domain.converters.shown import Shown
    from ls_pipeline.domain.converters.writer import Setup

NO_LABEL = "it has no label"
NOT_ON_A_PICTURE = "it is not a region of a picture"

NO_NOTES = "the format has no notes on regions"

NO_KEY_POINT = "the label config has no such key point"

PERCENT = Size(100, 100)
"""A size for proportions, if the picture's is not known."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Marked:
    """An object that was marked on a picture, with its labels."""

    labels: list[str]
    shape: Region | None
    """None if only key points were marked."""
    annotation: Mapping[str, Any]
    points: dict[str, Region] = field(default_factory=dict)
    """Key points by name."""
    edges: list[tuple[Source, str, str]] = field(default_factory=list)
    """Relations between two of its key points, with the names of both."""

    @property
    def sources(self) -> list[Source]:
        """The results that draw and label it."""
        regions = [*([self.shape] if self.shape else []), *self.points.values()]
        return [source for region in regions for source in region.sources]

    @property
    def attributes(self) -> dict[str, Any]:
        return self.shape.attributes if self.shape else {}

    @property
    def attribute_sources(self) -> list[Source]:
        return self.shape.attribute_sources if self.shape else []


@dataclass(slots=True)
class Picture:
    """A picture, as one or all annotations of its task see it."""

    task_id: Any
    uri: str
    media: MediaFile
    size: Size | None
    """As annotators saw it; None if neither they nor the file say it."""
    objects: list[Marked]

    @property
    def file_name(self) -> str:
        """The file's path in the output, or its URI if it is not there."""
        return self.media.path if self.media.is_there else self.uri


class PictureReader:
    """Reads the pictures of tasks, one task after the other.

    ``proportions``: the format has shares of the width and height, which most shapes have without
    the picture's size, too.
    """

    def __init__(self, setup: Setup, *, proportions: bool = False) -> None:
        self.config, self.media, self.losses = setup.config, setup.media, setup.losses
        self.proportions = proportions

    def read(
        self, task_id: Any, data: Any, annotations: Sequence[Annotation], *, apart: bool
    ) -> list[Picture]:
        """Return the pictures of a task, also those without a mark.

        ``apart`` returns each picture once for each annotation, as formats need that can't say
        who marked what. What is not on a picture is counted as lost.
        """
        shown = self.config.shown_in(data, "image")
        groups = [[each] for each in annotations] if apart and annotations else [annotations]
        all_marked = [self._marked(task_id, group, shown) for group in groups]
        sizes = [_size(marked[number] for marked in all_marked) for number in range(len(shown))]
        pictures = []
        ids = [group[0].get("id") for group in groups if group]
        if len({id_ for id_ in ids if isinstance(id_, int)}) < len(groups):
            ids = list(range(len(groups)))
        for position, marked in enumerate(all_marked):
            for number, each in enumerate(shown):
                parts = [task_id]
                parts += [ids[position]] if apart and len(groups) > 1 else []
                parts += [number] if len(shown) > 1 else []
                media = self.media.file(each.value, IMAGES, file_name(each.value, *parts))
                size = media.size or sizes[number]
                pictures.append(Picture(task_id, each.value, media, size, marked[number]))
        return pictures

    def _marked(
        self, task_id: Any, annotations: Sequence[Annotation], shown: Sequence[Shown]
    ) -> dict[int, list[Marked]]:
        """Return the objects on each of a task's pictures."""
        marked: dict[int, list[Marked]] = {number: [] for number in range(len(shown))}
        for annotation in annotations:
            results = read_results(task_id, annotation)
            for source in results.unreadable:
                self.losses.lose(source, "it has no value")
            for source, _ in results.others:
                self.losses.lose(source, NOT_ON_A_PICTURE)
            by_picture: dict[int, list[Region]] = {}
            for region in results.regions:
                number = self._picture(region, shown)
                if number is None:
                    self._lose(region, NOT_ON_A_PICTURE)
                else:
                    by_picture.setdefault(number, []).append(region)
            objects = {
                number: self._objects(regions, annotation) for number, regions in by_picture.items()
            }
            self._add_edges(results, [each for some in objects.values() for each in some])
            for number, some in objects.items():
                marked[number] += some
        return marked

    def _add_edges(self, results: Results, objects: Sequence[Marked]) -> None:
        """Add the relations between key points to their objects; others are lost."""
        places = {
            region.id: (marked, name)
            for marked in objects
            for name, region in marked.points.items()
        }
        for source, start, end in results.relations:
            first, second = places.get(start), places.get(end)
            if first and second and first[0] is second[0]:
                first[0].edges.append((source, first[1], second[1]))
            else:
                self.losses.lose(source, "it is a relation")

    def _picture(self, region: Region, shown: Sequence[Shown]) -> int | None:
        names = region.to_name.split(",")
        if not region.to_name and (control := self.config.control(region.from_name)):
            names = list(control.to_names)
        here = [number for number, each in enumerate(shown) if each.index == region.index]
        for number in here:
            if shown[number].name in names:
                return number
        # The label config has other names since.
        return here[0] if len(here) == 1 and not self.config.knows_object(names) else None

    def _objects(self, regions: Sequence[Region], annotation: Annotation) -> list[Marked]:
        """Put key points and the regions that they are parts of together."""
        shapes = [region for region in regions if region.kind != KEY_POINT]
        points = [region for region in regions if region.kind == KEY_POINT]
        if self.config.has_key_points_alone and not shapes:
            return self._key_point_objects(points, annotation)
        objects = []
        by_id: dict[str, Marked] = {}
        for region in shapes:
            if not region.labels:
                self._lose(region, NO_LABEL)
                continue
            marked = Marked(region.labels, region, annotation)
            objects.append(marked)
            if region.id:
                by_id[region.id] = marked
        for region in points:
            whole = by_id.get(region.parent)
            if whole is None:
                self._lose(region, "it is a key point without a parent region")
            else:
                self._add_point(whole, region)
        return objects

    def _key_point_objects(self, points: Iterable[Region], annotation: Annotation) -> list[Marked]:
        """Return an object for each control; a name's second point begins another object."""
        objects: dict[str, list[Marked]] = {}
        for region in points:
            if not region.labels:
                self._lose(region, NO_LABEL)
                continue
            control = self.config.control(region.from_name)
            name = control.name if control else region.from_name
            mine = objects.setdefault(name, [])
            free = [each for each in mine if region.labels[0] not in each.points]
            if not free:
                free = [Marked([name], None, annotation)]
                mine.append(free[0])
            self._add_point(free[0], region)
        return [each for some in objects.values() for each in some]

    def _add_point(self, whole: Marked, region: Region) -> None:
        if not region.labels:
            self._lose(region, NO_LABEL)
            return
        for source in region.attribute_sources:
            self.losses.lose(source, "it is about a key point")
        if region.notes:
            self.losses.simplify(region.source, NO_NOTES)
        kept = [label for label in region.labels if label not in whole.points]
        if not kept:
            self._lose(region, "its region has another key point of that name")
        for label in kept:
            whole.points[label] = region

    def drawn(
        self, picture: Picture, marked: Marked, draw: Callable[[Region, Size], _T]
    ) -> _T | None:
        """Return what ``draw`` makes of an object's shape; None if it is lost."""
        region = marked.shape
        if region is None:
            return None
        try:
            form = draw(region, self.size(picture, region))
        except ShapeError as error:
            self.lose(marked, str(error))
            return None
        if region.own_size and picture.size and _differ(region.own_size, picture.size):
            self.losses.simplify(region.source, "it was drawn on a picture of another form")
        return form

    def size(self, picture: Picture, region: Region) -> Size:
        """Return the size of a region's picture. Raises ``ShapeError`` if it is not known."""
        size = picture.size or region.own_size
        if size is None and self.proportions and not region.needs_size:
            return PERCENT
        if region.kind == "brush" and region.own_size and region.own_size != size:
            raise ShapeError("its mask has another size than its picture")
        if size is None:
            raise ShapeError("the size of its picture is not known")
        return size

    def lose(self, marked: Marked, reason: str) -> None:
        """Count an object, and all that was said about it, as lost."""
        for source in (*marked.sources, *marked.attribute_sources):
            self.losses.lose(source, reason)
        self.lose_edges(marked)

    def lose_attributes(self, marked: Marked) -> None:
        """Count what was said about an object as lost."""
        for source in marked.attribute_sources:
            self.losses.lose(source, "the format has no attributes of regions")
        if marked.shape and marked.shape.notes:
            self.losses.simplify(marked.shape.source, NO_NOTES)

    def lose_edges(self, marked: Marked) -> None:
        """Count the relations between key points of an object as lost."""
        for source, *_ in marked.edges:
            self.losses.lose(source, "it is a relation")

    def lose_points(self, marked: Marked) -> None:
        """Count the key points of an object as lost."""
        self.lose_edges(marked)
        for region in marked.points.values():
            for source in region.sources:
                self.losses.lose(source, "the format has no key points")

    def _lose(self, region: Region, reason: str) -> None:
        for source in (*region.sources, *region.attribute_sources):
            self.losses.lose(source, reason)


def _differ(first: Size, second: Size) -> bool:
    """Return whether two sizes have different proportions, by more than the rounding of pixels."""
    one, other = first.width * second.height, second.width * first.height
    return abs(one - other) > max(*first, *second)


def _size(groups: Iterable[Iterable[Marked]]) -> Size | None:
    """Return the size of a picture, as the first region says that knows it."""
    for marked in (marked for group in groups for marked in group):
        for region in (*([marked.shape] if marked.shape else []), *marked.points.values()):
            if region.own_size:
                return region.own_size
    return None
