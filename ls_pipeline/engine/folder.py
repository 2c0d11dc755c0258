"""Writes folders for training: labels from the converters, and pictures copied between buckets.

A folder is complete once its marker is there. A run that is killed leaves its progress, from which
the next one goes on. A picture that the folder of the snapshot before has is copied from there, one
in a bucket of the same store inside the store, and any other is streamed.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    FormatError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
    SnapshotError,
)
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.snapshot.folders import (
    MARKER_BYTES,
    MEDIA_FILE,
    MISSING_FILE,
    PROGRESS,
    Folder,
    dataset_folder,
    marker_key,
)
from ls_pipeline.domain.snapshot.media import MediaObject
from ls_pipeline.engine.folder_labels import FolderLabels, check_fits
from ls_pipeline.engine.folder_plan import Copied, FolderPlan, Stored, ToCopy
from ls_pipeline.engine.parallel import in_parallel
from ls_pipeline.reader import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.domain.converters.lost import Report
    from ls_pipeline.domain.snapshot.manifest import Manifest
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.snapshots import Snapshots

MOST_REFUSED = 20
"""Pictures that may be refused for their credentials before it counts as a fault of those."""

PROGRESS_EACH = 1000
"""Pictures after which a run writes down its progress."""

MOST_BEFORE = 5
"""Snapshots before this one whose folders may have pictures to copy."""

DENIED = (BucketAccessError, BucketNotFoundError)
"""What an object may be refused with, if it is about more than this object."""


class _ReplacedError(Exception):
    """An object was replaced since it was copied."""


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
        is_as_wanted = found and found.annotations == run.target.params.formats_annotations
        if found and is_as_wanted and not found.missing:
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
        self.origins = _origins(run)
        self.progress_files = 0
        """The number of the next file of progress."""
        check_fits(manifest, name)

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
        if self.bucket.find(key):  # of other annotations, or without some pictures
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
        """Write the labels of all tasks that miss no picture to disk, and plan the pictures."""
        labels = FolderLabels(self.snapshot, self.name, self.annotations)
        return labels.write(output, self.plan, self.held.renew)

    def _put_labels(self, labels: Path) -> None:
        """Write the label files, and remove those of a run that was cut off."""

        def put(file: Path) -> None:
            path = file.relative_to(labels).as_posix()
            kind = guess_type(path)[0] or "text/plain"
            self.bucket.put_file(self.root + path, file, kind)

        for _ in in_parallel(_files(labels), put):
            self.held.renew()
        for folder in ("labels/", "annotations/"):
            for key in self._keys(folder):
                if not (labels / key[len(self.root) :]).is_file():
                    self._delete(key)

    # -- pictures -------------------------------------------------------------------------

    def _find_earlier(self) -> None:
        """Find the pictures of the folders before, and those of a run that was cut off."""
        self._find_before()
        for entry in self._lines(self.root + MEDIA_FILE):  # of other annotations, or incomplete
            copied = Copied(entry["path"], entry["uri"], entry["version"], entry["checksum"])
            self.plan.add_copied(copied, entry["stored"])
        for key in self._keys(PROGRESS):
            for entry in self._lines(key):
                self.plan.add_copied(Copied(**entry))
            self.progress_files = max(self.progress_files, _number_of(key) + 1)
        for _ in self._see_pictures():
            pass
        self.plan.forget_unseen()

    def _find_before(self) -> None:
        """Find the pictures of the newest complete folder, and of what was begun since."""
        name = self.manifest.previous
        for _ in range(MOST_BEFORE):
            if not name:
                return
            root = dataset_folder(self.snapshots.prefix, name, self.name)
            if _read_marker(self.bucket, marker_key(self.snapshots.prefix, name, self.name)):
                self.plan.add_before(root, self._lines(root + MEDIA_FILE))
                return
            for key in self._keys_below(root + PROGRESS):
                self.plan.add_before(root, self._lines(key))
            try:
                name = self.snapshots.manifest(name).previous
            except SnapshotError:  # retention removed it
                return

    def _see_pictures(self) -> Iterator[str]:
        """Compare the plan with what the bucket has; yield the keys that it does not have."""
        for page in self.bucket.pages(f"{self.root}images/"):
            self.held.renew()
            for stored in page:
                path = stored.key[len(self.root) :]
                if not self.plan.see(path, stored.version, stored.size):
                    yield stored.key

    def _copy_pictures(self) -> None:
        """Copy what is wanted and not there yet.

        If an object was replaced since a run that was cut off copied it, all is copied again: the
        progress would not tell which of both versions is there.
        """
        try:
            self._copy_wanted()
        except _ReplacedError:
            for key in self._keys(PROGRESS):
                self._delete(key)
            self.bucket.delete(self.root + MEDIA_FILE)
            self.plan.forget_copied()
            self._copy_wanted()

    def _copy_wanted(self) -> None:
        """Copy pictures, and write down the progress.

        Raises ``BucketAccessError`` if so many are refused that it is about more than objects.
        """
        progress, refused, fine = list[Copied](), list[BucketError](), 0
        items = in_parallel(self.plan.to_copy(), self._copy)
        for done, (item, outcome) in enumerate(items, 1):
            self.run.advance(f"{self.name} folder", done)
            self.held.renew()
            if isinstance(outcome, BucketError):
                reason = str(outcome).removeprefix(f"{item.picture.uri}: ")
                self.plan.miss(item.picture.uri, item.picture.task_id, reason)
                refused += [outcome] if isinstance(outcome, DENIED) else []
            elif isinstance(outcome, str):
                self.plan.miss(item.picture.uri, item.picture.task_id, outcome)
            else:
                fine += 1
                if outcome:
                    self.plan.add_copied(outcome)
                    progress.append(outcome)
            if len(refused) >= MOST_REFUSED:
                raise refused[0]
            if len(progress) == PROGRESS_EACH:
                self._put_progress(progress)
                progress.clear()
        if progress:
            self._put_progress(progress)
        if refused and not fine:
            raise refused[0]

    def _copy(self, item: ToCopy) -> Copied | BucketError | str | None:
        """Copy a picture; return nothing if it is there, and why it can't be copied."""
        picture = item.picture
        name, key = MediaObject(picture.task_id, "", picture.uri).place
        origin, version = self.origins.get(name), picture.version
        if origin is None:
            return f"nothing is read from {name}: add it to the source's media_buckets."
        to = self.root + picture.path
        try:
            version = version or _current_version(origin.bucket, key)
            if item.there == version:
                return None
            if item.there:
                raise _ReplacedError
            earlier = item.elsewhere.get(version)
            if earlier and self._copy_earlier(earlier, to):
                return Copied(picture.path, picture.uri, version, earlier.checksum)
            copied = origin.is_same_store and self._copy_inside(origin.bucket, key, to, version)
            file = None if copied else self._download(origin.bucket, key, version)
        except ObjectChangedError:
            if not picture.version:
                raise
            return "the object was replaced since it was labeled."
        except (*DENIED, ObjectNotFoundError, ObjectRefusedError) as error:
            return error
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
        for key in self._see_pictures():
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

        for _, (path, text) in in_parallel(self.plan.alike(), checksum):
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

    def _keys(self, folder: str) -> Iterator[str]:
        return self._keys_below(self.root + folder)

    def _keys_below(self, folder: str) -> Iterator[str]:
        return (stored.key for page in self.bucket.pages(folder) for stored in page)

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
        key = f"{self.root}{PROGRESS}{self.progress_files:08}.jsonl"
        self.bucket.put(key, body.encode(), "application/jsonl")
        self.progress_files += 1

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


def _origins(run: RunContext) -> dict[str, _Origin]:
    """Return the buckets of a connection's media, by their URIs.

    Two stores may have a bucket of the same name: tasks then name the source's.
    """
    origins: dict[str, _Origin] = {}
    for side in run.connection.media_sides:
        bucket, is_same_store = run.bucket, side.store == run.target.store
        if not (is_same_store and side.root == run.target.root):
            if run.open_bucket is None:
                continue
            bucket = run.open_bucket(side)
        origins.setdefault(side.root.rstrip("/"), _Origin(bucket, is_same_store))
    return origins


def _number_of(key: str) -> int:
    """Return the number of a file of progress; -1 if it has none of ours."""
    name = key.rpartition("/")[2].removesuffix(".jsonl")
    return int(name) if name.isascii() and name.isdigit() else -1


def _current_version(bucket: Bucket, key: str) -> str:
    stored = bucket.find(key)
    if stored is None:
        raise ObjectNotFoundError(bucket.uri(key))
    return stored.version


def _files(folder: str | Path) -> Iterator[Path]:
    """Yield all files below a folder. `Path.rglob` would first list each folder in memory."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                yield Path(entry.path)
