"""The media of tasks on disk: fetched in parallel, each version once, whatever process asks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ls_pipeline.domain.snapshot.media import MediaObject
    from ls_pipeline.resources.bucket import Bucket

READERS = 16
"""Objects fetched in parallel."""

AHEAD = 64
"""Objects that may be fetched before their turn."""

REFUSALS = (BucketAccessError, BucketNotFoundError, ObjectNotFoundError, ObjectRefusedError)
"""What one object may be refused with, while others can be read."""

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class LocalMedia(NamedTuple):
    """A task's picture, recording or the like on disk."""

    task_id: int
    data_key: str
    """The key of the task's data that names it."""
    uri: str
    path: Path


class _Fetched(NamedTuple):
    """What became of an object: a file with the version and size of the object, or a reason."""

    path: Path | None = None
    version: str = ""
    size: int = 0
    reason: str = ""


class MediaCache:
    """Media below ``root``. The file ``pins`` keeps the version of each, for all later readers."""

    def __init__(self, root: Path, pins: Path, open_bucket: Callable[[str], Bucket | None]) -> None:
        """``open_bucket`` returns a bucket by its URI; None if nothing may be read there."""
        self.root, self.pins, self.open_bucket = root, pins, open_bucket
        self.missing: dict[str, str] = {}
        """URI of each object that can't be read → why."""
        self._pinned = _read_pins(pins)

    def fetch(self, objects: Iterable[MediaObject]) -> list[LocalMedia]:
        """Return a file for each object that can be read, in the same order.

        The others are in `missing`. Raises ``BucketError`` if a bucket fails.
        """
        files = [
            LocalMedia(item.task_id, item.data_key, item.uri, path)
            for item, path in self._in_parallel(objects)
            if path is not None
        ]
        self._write_pins()
        return files

    def _in_parallel(
        self, objects: Iterable[MediaObject]
    ) -> Iterator[tuple[MediaObject, Path | None]]:
        """Yield each object with its file; what several tasks show is fetched once."""
        paths: dict[str, Path | None] = {}
        waiting: deque[MediaObject] = deque()
        pending: dict[str, Future[_Fetched]] = {}

        def next_object() -> tuple[MediaObject, Path | None]:
            item = waiting.popleft()
            if future := pending.pop(item.id, None):
                paths[item.id] = self._record(item, future.result())
            return item, paths[item.id]

        with ThreadPoolExecutor(READERS) as readers:
            try:
                for item in objects:
                    if item.id not in paths and item.id not in pending:
                        pending[item.id] = readers.submit(self._fetch, item)
                    waiting.append(item)
                    if len(waiting) > AHEAD:
                        yield next_object()
                while waiting:
                    yield next_object()
            finally:
                readers.shutdown(cancel_futures=True)

    def _record(self, item: MediaObject, fetched: _Fetched) -> Path | None:
        if fetched.path is None:
            self.missing[item.uri] = fetched.reason
        else:
            self._pinned[item.id] = (fetched.version, fetched.size)
        return fetched.path

    def _write_pins(self) -> None:
        draft = self.pins.with_suffix(f".{os.getpid()}")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(self._pinned), encoding="utf-8")
        draft.replace(self.pins)

    def _fetch(self, item: MediaObject) -> _Fetched:
        name, key = item.place
        if not name:
            return _Fetched(reason=f"{item.uri}: it is not in a bucket, and nothing else is read.")
        try:
            bucket = self.open_bucket(name)
            if bucket is None:
                return _Fetched(reason=f"{item.uri}: {name} was not named as a bucket to read.")
            return self._read(bucket, key, item)
        except ObjectChangedError:
            return _Fetched(reason=f"{item.uri}: the object was replaced since it was labeled.")
        except REFUSALS as error:
            return _Fetched(reason=str(error))

    def _read(self, bucket: Bucket, key: str, item: MediaObject) -> _Fetched:
        version, size = self._pinned.get(item.id, (item.version, -1))
        if not version:
            stored = bucket.find(key)
            if stored is None:
                raise ObjectNotFoundError(item.uri)
            version, size = stored.version, stored.size
        path = self._path(item.uri, version)
        if not path.is_file() or size not in {-1, path.stat().st_size}:
            _download(bucket, StoredObject(key, version, size), path)
        return _Fetched(path, version, path.stat().st_size)

    def _path(self, uri: str, version: str) -> Path:
        name = hashlib.sha256(f"{uri}\n{version}".encode()).hexdigest()
        suffix = Path(uri).suffix if _SUFFIX.fullmatch(Path(uri).suffix) else ""
        return self.root / name[:2] / f"{name}{suffix}"


def _download(bucket: Bucket, stored: StoredObject, to: Path) -> None:
    """Write exactly this version to a file, which appears when it is whole.

    The bucket compares the version, or the checksum, with what it sends. A size of -1 is unknown.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = to.with_name(f"{to.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with draft.open("wb") as stream:
            bucket.download(stored, stream)
        if stored.size not in {-1, draft.stat().st_size}:
            uri = bucket.uri(stored.key)
            raise BucketUnavailableError(uri, "its size is not the listed one.", hint="Try again.")
        draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)


def _read_pins(pins: Path) -> dict[str, tuple[str, int]]:
    """Return each object's version and size by its id; nothing if the file is damaged."""
    try:
        document = json.loads(pins.read_text(encoding="utf-8"))
        return {id_: (str(version), int(size)) for id_, (version, size) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
