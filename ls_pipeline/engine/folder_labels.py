"""The labels of a folder for training, on disk; and the pictures that they need, in the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ls_pipeline.domain.converters.coco import CocoWriter
from ls_pipeline.domain.converters.folder import OutputFolder
from ls_pipeline.domain.converters.formats import fitting
from ls_pipeline.domain.converters.lost import Losses, Report
from ls_pipeline.domain.converters.media import MediaFile
from ls_pipeline.domain.converters.shown import Classes, ShownConfig
from ls_pipeline.domain.converters.writer import Setup, write_tasks
from ls_pipeline.domain.converters.yolo import YoloWriter
from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.folders import SPLIT_FOLDERS
from ls_pipeline.domain.snapshot.media import MediaObject
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.engine.folder_plan import FolderPlan, Picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ls_pipeline.domain.converters.writer import Task, Writer
    from ls_pipeline.domain.snapshot.formats import Annotations
    from ls_pipeline.domain.snapshot.manifest import Manifest
    from ls_pipeline.domain.snapshot.splits import Split
    from ls_pipeline.reader import Snapshot


def check_fits(manifest: Manifest, name: str) -> None:
    """Raise ``FormatError`` if a format can't hold the labels of a snapshot."""
    if name not in fitting(ShownConfig(manifest.label_config)):
        raise FormatError(
            f"{name} can't represent the labels of this label config.",
            hint="Folders hold pictures with regions; formats hold texts and recordings.",
        )


@dataclass(frozen=True)
class FolderLabels:
    """The labels of a snapshot in one format."""

    snapshot: Snapshot
    name: str
    annotations: Annotations

    def write(self, output: Path, plan: FolderPlan, each: Callable[[], None]) -> Report:
        """Write the labels of all splits, without the tasks that miss a picture.

        Calls ``each`` after each split.
        """
        manifest = self.snapshot.manifest
        with OutputFolder(output) as folder:
            losses, classes = Losses(folder), Classes(manifest.class_list)
            for split in SPLITS:
                media = _PlannedMedia(plan, split, in_split=self.name == "COCO")
                config = ShownConfig(manifest.label_config)
                setup = Setup(config, classes, media, losses, folder)
                documents = self.snapshot.documents(split)
                complete = (task for task in documents if not plan.misses(task["id"]))
                writer = _OneByOne(self._writer(setup, split), media)
                write_tasks(writer, setup, complete, self.annotations)
                each()
            losses.write(folder, self.name, self.annotations)
            return losses.report

    def _writer(self, setup: Setup, split: Split) -> Writer:
        if self.name == "COCO":
            return CocoWriter(setup, f"annotations/instances_{SPLIT_FOLDERS[split]}.json")
        tasks = self.snapshot.manifest.tally.splits
        used = [SPLIT_FOLDERS[each] for each in SPLITS if tasks.get(each)]
        folders = {each: f"images/{each}" for each in used}
        return YoloWriter(setup, "obb" if self.name == "YOLO_OBB" else None, folders)


class _PlannedMedia:
    """Plans the pictures of a split, one task after the other."""

    def __init__(self, plan: FolderPlan, split: Split, *, in_split: bool) -> None:
        """``in_split``: the output names pictures from their split's folder."""
        self.plan, self.split, self.in_split = plan, split, in_split
        self._task_id, self._uri, self._version = 0, "", ""

    def begin(self, task: Task) -> None:
        """Begin with another task."""
        origin = parse_origin(task.document.get("meta"))
        self._task_id = task.id
        self._uri, self._version = (origin.uri, origin.version) if origin else ("", "")

    def file(self, uri: str, folder: str, name: str) -> MediaFile:
        path = f"{folder}/{SPLIT_FOLDERS[self.split]}/{name}"
        if MediaObject(self._task_id, "", uri).place[0]:
            version = self._version if uri == self._uri else ""
            self.plan.want(Picture(path, self.split, self._task_id, uri, version))
        else:
            self.plan.miss(uri, self._task_id, "it is not in a bucket, and nothing else is read.")
        return MediaFile(name if self.in_split else path, is_there=True)


class _OneByOne:
    """A writer that says which task's pictures are asked for."""

    def __init__(self, writer: Writer, media: _PlannedMedia) -> None:
        self.writer, self.media = writer, media

    def add(self, task: Task) -> None:
        self.media.begin(task)
        self.writer.add(task)

    def finish(self) -> None:
        self.writer.finish()
