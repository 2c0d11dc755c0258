"""Writes folders for training: labels from the converters, and pictures copied between buckets.

A folder is complete once its marker is there. A run that is killed leaves its progress, from which
the next one goes on. A picture that the folder of the snapshot before has is copied from there, one
in a bucket of the same store inside the store, and any other is streamed.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ls_pipeline.domain.converters.coco import CocoWriter
from ls_pipeline.domain.converters.folder import OutputFolder
from ls_pipeline.domain.converters.formats import fitting
from ls_pipeline.domain.converters.lost import Losses, Report
from ls_pipeline.domain.converters.media import MediaFile
from ls_pipeline.domain.converters.shown import Classes, ShownConfig
from ls_pipeline.domain.converters.writer import Setup, write_tasks
from ls_pipeline.domain.converters.yolo import YoloWriter
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    FormatError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.snapshot.folders import (
    MARKER_BYTES,
    MEDIA_FILE,
    MISSING_FILE,
    PROGRESS,
    SPLIT_FOLDERS,
    Folder,
    dataset_folder,
    marker_key,
)
from ls_pipeline.domain.snapshot.media import MediaObject
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.engine.folder_plan import Copied, FolderPlan, Picture, Stored
from ls_pipeline.reader import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.domain.converters.writer import Task, Writer
    from ls_pipeline.domain.snapshot.manifest import Manifest
    from ls_pipeline.domain.snapshot.splits import Split
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.snapshots import Snapshots
    from ls_pipeline.settings.model import Source, Target

COPIERS = 16
"""Pictures copied in parallel."""

AHEAD = 64
"""Pictures that may be copied before their turn."""

PROGRESS_EACH = 1000
"""Pictures after which a run writes down its progress."""

REFUSALS = (BucketAccessError, BucketNotFoundError, ObjectNotFoundError, ObjectRefusedError)
"""What one object may be refused with, while others can be read."""


def write_folders(
    run: RunContext, snapshots: Snapshots, manifest: Manifest
) -> dict[str, Folder | str]:
    """Write the folders that the target asks for, unless they are complete.

    Returns each format's folder, or why it has none. Raises ``BucketError`` if a bucket fails.
    """
    folders: dict[str, Folder | str] = {}
    for name in run.target.params.folders:
        key = marker_key(snapshots.prefix, manifest.snapshot, name)
        found = _read_marker(run.bucket, key)
        if found and found.annotations == run.target.params.formats_annotations:
            folders[name] = found
            continue
        try:
            folders[name] = _FolderWriter(run, snapshots, manifest, name).write()
        except FormatError as error:
            folders[name] = str(error)
    return folders


def _read_marker(bucket: Bucket, key: str) -> Folder | None:
    stored = bucket.find(key)
    if stored is None or stored.size > MARKER_BYTES:
        return None
    try:
        return Folder.model_validate_json(bucket.get(key, stored.version))
    except ValidationError:
        return None


@dataclass(frozen=True)
class _Origin:
    """A bucket that pictures are read from."""

    bucket: Bucket
    is_same_store: bool
    """Whether the target's store can copy from it."""


class _FolderWriter:
    def __init__(
        self, run: RunContext, snapshots: Snapshots, manifest: Manifest, name: str
    ) -> None:
        self.run, self.bucket, self.manifest, self.name = run, run.bucket, manifest, name
        self.snapshots, self.held = snapshots, run.held
        self.annotations = run.target.params.formats_annotations
        self.root = dataset_folder(snapshots.prefix, manifest.snapshot, name)
        self.origins = dict(_origins(run))
        self.config = ShownConfig(manifest.label_config)
        if name not in fitting(self.config):
            raise FormatError(f"{name} can't represent the labels of this label config.")

    def write(self) -> Folder:
        with tempfile.TemporaryDirectory() as folder:
            self.temporary = Path(folder)
            self.snapshot = Snapshot(self.snapshots, self.manifest, self.temporary / "snapshot")
            self.plan = FolderPlan(self.temporary / "plan.db")
            try:
                return self._write()
            finally:
                self.plan.close()

    def _write(self) -> Folder:
        key = marker_key(self.snapshots.prefix, self.manifest.snapshot, self.name)
        if self.bucket.find(key):  # of other annotations
            self._delete(key)
        labels = self.temporary / "labels"
        report = self._convert(labels)
        self._find_earlier()
        self._copy_pictures()
        if self.plan.count_missing():
            self.plan.leave_out_missing()
            labels = self.temporary / "labels-without-missing"
            report = self._convert(labels)
        self._verify()
        self._add_checksums()
        self._put_lines(MISSING_FILE, self.plan.missing())
        self._put_lines(MEDIA_FILE, self.plan.pictures())
        self._put_labels(labels)
        for key in self._keys(PROGRESS):
            with suppress(BucketAccessError):  # what is left there misleads no reader
                self._delete(key)
        return self._publish(report)

    # -- labels ---------------------------------------------------------------------------

    def _convert(self, output: Path) -> Report:
        """Write the labels of all splits to disk, and plan the pictures."""
        with OutputFolder(output) as folder:
            losses, classes = Losses(folder), Classes(self.manifest.class_list)
            for split in SPLITS:
                media = _PlannedMedia(self.plan, split, in_split=self.name == "COCO")
                setup = Setup(self.config, classes, media, losses, folder)
                documents = self.snapshot.documents(split)
                complete = (each for each in documents if not self.plan.misses(each["id"]))
                writer = _OneByOne(self._writer(setup, split), media)
                write_tasks(writer, setup, complete, self.annotations)
                self.held.renew()
            losses.write(folder, self.name, self.annotations)
            return losses.report

    def _writer(self, setup: Setup, split: Split) -> Writer:
        if self.name == "COCO":
            return CocoWriter(setup, f"annotations/instances_{SPLIT_FOLDERS[split]}.json")
        used = [each for each in SPLITS if self.manifest.tally.splits.get(each)]
        folders = {SPLIT_FOLDERS[each]: f"images/{SPLIT_FOLDERS[each]}" for each in used}
        return YoloWriter(setup, "obb" if self.name == "YOLO_OBB" else None, folders)

    def _put_labels(self, labels: Path) -> None:
        """Write the label files, and remove those of a run that was killed."""
        files = {path.relative_to(labels).as_posix() for path in _files(labels)}
        with ThreadPoolExecutor(COPIERS) as writers:
            for _ in writers.map(lambda path: self._put(path, labels / path), sorted(files)):
                self.held.renew()
        for folder in ("labels/", "annotations/"):
            for key in self._keys(folder):
                if key[len(self.root) :] not in files:
                    self._delete(key)

    def _put(self, path: str, file: Path) -> None:
        kind = guess_type(path)[0] or "text/plain"
        self.bucket.put_file(self.root + path, file, kind)

    # -- pictures -------------------------------------------------------------------------

    def _find_earlier(self) -> None:
        """Find the pictures of the folder before, and those of a run that was cut off."""
        if before := self.manifest.previous:
            root = dataset_folder(self.snapshots.prefix, before, self.name)
            if _read_marker(self.bucket, marker_key(self.snapshots.prefix, before, self.name)):
                self.plan.add_before(root, self._lines(root + MEDIA_FILE))
        for key in self._keys(PROGRESS):
            for entry in self._lines(key):
                self.plan.add_copied(Copied(**entry))
        for _ in self._see_pictures():
            pass
        self.plan.forget_unseen()

    def _see_pictures(self) -> Iterator[str]:
        """Compare the plan with what the bucket has; yield the keys that it does not have."""
        for page in self.bucket.pages(f"{self.root}images/"):
            self.held.renew()
            for stored in page:
                path = stored.key[len(self.root) :]
                if not self.plan.see(path, stored.version, stored.size):
                    yield stored.key

    def _copy_pictures(self) -> None:
        """Copy what is wanted and not there yet, and write down the progress."""
        progress = list[Copied]()
        for done, (picture, copied) in enumerate(self._in_parallel(), 1):
            self.run.advance(f"{self.name} folder", done)
            if isinstance(copied, str):
                self.plan.miss(picture.uri, picture.task_id, copied)
            elif copied:
                self.plan.add_copied(copied)
                progress.append(copied)
            if len(progress) == PROGRESS_EACH:
                self._put_progress(progress)
                progress.clear()
        if progress:
            self._put_progress(progress)

    def _in_parallel(self) -> Iterator[tuple[Picture, Copied | str | None]]:
        """Yield each picture with what was copied, nothing if it is there, or why it can't be."""
        waiting: deque[tuple[Picture, Future[Copied | str | None]]] = deque()
        with ThreadPoolExecutor(COPIERS) as copiers:
            try:
                for picture, there, elsewhere in self.plan.to_copy():
                    future = copiers.submit(self._copy, picture, there, elsewhere)
                    waiting.append((picture, future))
                    if len(waiting) > AHEAD:
                        first, future = waiting.popleft()
                        yield first, future.result()
                        self.held.renew()
                for picture, future in waiting:
                    yield picture, future.result()
            finally:
                copiers.shutdown(cancel_futures=True)

    def _copy(
        self, picture: Picture, there: str, elsewhere: dict[str, Stored]
    ) -> Copied | str | None:
        name, key = MediaObject(picture.task_id, "", picture.uri).place
        origin, version = self.origins.get(name), picture.version
        if origin is None:
            return f"nothing is read from {name}: add it to the source's media_buckets."
        to = self.root + picture.path
        try:
            version = version or _current_version(origin.bucket, key)
            if there == version:
                return None
            earlier = elsewhere.get(version)
            if earlier and self._copy_earlier(earlier, to):
                return Copied(picture.path, picture.uri, version, earlier.checksum)
            copied = origin.is_same_store and self._copy_inside(origin.bucket, key, to, version)
            file = None if copied else self._download(origin.bucket, key, version)
        except ObjectChangedError:
            if not picture.version:
                raise
            return "the object was replaced since it was labeled."
        except REFUSALS as error:
            return str(error).removeprefix(f"{picture.uri}: ")
        if file:
            try:
                self.bucket.put_file(to, file, guess_type(to)[0] or "application/octet-stream")
            finally:
                file.unlink()
        return Copied(picture.path, picture.uri, version)

    def _copy_earlier(self, earlier: Stored, to: str) -> bool:
        """Copy a picture of the folder before; return False if it was removed or replaced."""
        try:
            self.bucket.copy(earlier.key, to, version=earlier.stored)
        except (ObjectNotFoundError, ObjectChangedError, BucketAccessError):
            return False
        return True

    def _copy_inside(self, origin: Bucket, key: str, to: str, version: str) -> bool:
        """Have the store copy an object; return False if it can't, or may not."""
        try:
            self.bucket.copy(key, to, source=origin, version=version)
        except (ObjectNotFoundError, ObjectChangedError):
            raise
        except BucketError:  # such as of a role that may not read there, or of an object of 6 GB
            return False
        return True

    def _download(self, origin: Bucket, key: str, version: str) -> Path:
        with tempfile.NamedTemporaryFile(dir=self.temporary, delete=False) as file:
            origin.download(StoredObject(key, version, 0), file)  # type: ignore[arg-type]
        return Path(file.name)

    # -- the whole ------------------------------------------------------------------------

    def _verify(self) -> None:
        """Compare the pictures with the plan, and delete those of tasks that were left out.

        Raises ``BucketUnavailableError`` if one is missing.
        """
        for key in list(self._see_pictures()):
            self._delete(key)
        if path := self.plan.absent():
            uri = self.bucket.uri(self.root + path)
            raise BucketUnavailableError(uri, "it is not as it was written.", hint="Try again.")

    def _add_checksums(self) -> None:
        """Find out which pictures have equal bytes, of those that are equally large."""

        def checksum(item: tuple[str, str, int]) -> tuple[str, str]:
            path, version, size = item
            stored = StoredObject(self.root + path, version, size)
            return path, self.bucket.checksum(stored)

        with ThreadPoolExecutor(COPIERS) as readers:
            for path, text in readers.map(checksum, self.plan.alike()):
                self.plan.set_checksum(path, text)

    def _publish(self, report: Report) -> Folder:
        tally = self.plan.tally()
        leaks, example = self.plan.leaks()
        missing = next(self.plan.missing(), None)
        folder = Folder(
            snapshot=self.manifest.snapshot,
            format=self.name,
            pictures={split: count for split, (count, _) in tally.items()},
            picture_bytes=sum(size for _, size in tally.values()),
            missing=self.plan.count_missing(),
            missing_example=f"{missing['uri']}: {missing['reason']}" if missing else "",
            annotations=self.annotations,
            report=report.as_dict(),
            leaks=leaks,
            leak_example=example,
        )
        self.held.renew()
        key = marker_key(self.snapshots.prefix, self.manifest.snapshot, self.name)
        self.bucket.put(key, folder.as_bytes(), "application/json")
        return folder

    # -- files in the bucket --------------------------------------------------------------

    def _keys(self, folder: str) -> list[str]:
        pages = self.bucket.pages(self.root + folder)
        return [stored.key for page in pages for stored in page]

    def _delete(self, key: str) -> None:
        self.held.renew()
        self.bucket.delete(key)

    def _put_lines(self, path: str, entries: Iterable[dict[str, Any]]) -> None:
        file = self.temporary / path
        with file.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(entry) + "\n" for entry in entries)
        self.bucket.put_file(self.root + path, file, "application/jsonl")

    def _put_progress(self, progress: Sequence[Copied]) -> None:
        body = "".join(json.dumps(each._asdict()) + "\n" for each in progress)
        number = len(self._keys(PROGRESS))
        key = f"{self.root}{PROGRESS}{number:08}.jsonl"
        self.bucket.put(key, body.encode(), "application/jsonl")

    def _lines(self, key: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a file of ours; none if it was removed or damaged."""
        file = self.temporary / "lines.jsonl"
        stored = self.bucket.find(key)
        if stored is None:
            return
        with file.open("wb") as stream:
            self.bucket.download(stored, stream)
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


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


def _origins(run: RunContext) -> Iterator[tuple[str, _Origin]]:
    """Yield the buckets of a connection's media, by their URIs."""
    target, source = run.target, run.connection.source
    sides: list[Source | Target] = [target, *([source, *source.media] if source else [])]
    for side in sides:
        bucket = run.bucket
        if side.root != target.root:
            if run.open_bucket is None:
                continue
            bucket = run.open_bucket(side)
        is_same = (side.cloud, side.params.endpoint_url) == (
            target.cloud,
            target.params.endpoint_url,
        )
        yield side.root.rstrip("/"), _Origin(bucket, is_same)


def _current_version(bucket: Bucket, key: str) -> str:
    stored = bucket.find(key)
    if stored is None:
        raise ObjectNotFoundError(bucket.uri(key))
    return stored.version


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
