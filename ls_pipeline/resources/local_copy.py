"""A folder that mirrors objects of a bucket: ``files/``, and an index of keys and files.

``index.jsonl`` has one line per object, in the order of the keys' bytes. An update writes
``index.jsonl.new``, so that a killed run can continue: each line is written before its file is
moved into place, so only the last line's file may be missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import IO, TYPE_CHECKING, Any

from ls_pipeline.domain.diff import Change, Difference, KnownObject, State, diff
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    LocalCopyError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.local_paths import local_path
from ls_pipeline.domain.objects import Filter
from ls_pipeline.resources.failures import check_size
from ls_pipeline.resources.private_files import create_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket

    _Entry = dict[str, Any]

READERS = 8
"""Objects fetched in parallel."""

AHEAD = 32
"""Objects that may be fetched before their turn."""

MAX_REFUSED = 20
"""With this many refused objects in one update, the bucket as a whole counts as refused.

If it fails at this many in a row, it counts as unavailable.
"""


@dataclass
class CopyResult:
    """What an update did, for people to read."""

    fetched: int = 0
    removed: int = 0
    kept: int = 0
    bytes: int = 0
    """Bytes of the fetched objects."""
    skipped: list[str] = field(default_factory=list)
    """A sentence for each object that changed, disappeared or failed while it was read."""
    failed: int = 0
    """Those of them that the bucket failed at, since it last delivered one."""
    refused: list[str] = field(default_factory=list)
    """A sentence for each object that the credentials may not read."""


class LocalCopy:
    """A copy of objects below ``root``, for one process at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self._partial = root / "partial"
        self._index = root / "index.jsonl"
        self._new = root / "index.jsonl.new"

    def update(
        self,
        bucket: Bucket,
        listed: Iterable[StoredObject],
        on_progress: Callable[[int], None] = lambda _done: None,
    ) -> CopyResult:
        """Make the copy equal to a listing in the order of the keys' bytes.

        Memory use is constant. A replaced object keeps its old file until the new file is
        complete; an object that changes while it is read keeps it until the next update.

        Raises ``BucketError``, or ``LocalCopyError`` if the disk refuses; the next call continues
        from there.
        """
        result = CopyResult()
        with self._disk():
            self._begin()
            with self._new.open("w", encoding="utf-8") as index:
                for entry, part in self._new_entries(bucket, listed, result):
                    index.write(json.dumps(entry) + "\n")
                    index.flush()
                    if part:
                        self._move(part, entry["key"])
                    on_progress(result.fetched + result.kept)
                os.fsync(index.fileno())
            self._new.replace(self._index)
        return result

    def entries(self) -> Iterator[_Entry]:
        """Return the index: ``key``, ``version``, ``size`` in bytes, and ``file`` below root."""
        return _entries(self._index)

    # -- after an interrupted call ----------------------------------------------------------

    def _begin(self) -> None:
        create_private_folder(self.root)
        self.files.mkdir(exist_ok=True)
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        if self._new.exists():
            self._merge()

    def _merge(self) -> None:
        """Take over the results of an interrupted call."""
        merged = self.root / "index.jsonl.merged"
        last = ""
        with merged.open("w", encoding="utf-8") as index:
            for entry, following in pairwise(chain(_entries(self._new), [{}])):
                if following:
                    index.write(json.dumps(entry) + "\n")
                    last = entry["key"]
                else:  # its file may be another version's
                    self._file(entry["key"]).unlink(missing_ok=True)
            for entry in self.entries():
                if entry["key"] > last:
                    index.write(json.dumps(entry) + "\n")
            index.flush()
            os.fsync(index.fileno())
        merged.replace(self._index)
        self._new.unlink()

    # -- object by object ---------------------------------------------------------------------

    def _new_entries(
        self, bucket: Bucket, listed: Iterable[StoredObject], result: CopyResult
    ) -> Iterator[tuple[_Entry, Path | None]]:
        """Yield the entries of the new index, in order, each with its file if that is new."""
        known = (
            KnownObject(entry["key"], entry["version"], entry["size"], State.LOADED)
            for entry in self.entries()
        )
        readers = ThreadPoolExecutor(READERS)
        waiting: deque[tuple[Difference, Future[Path] | None]] = deque()
        try:
            for number, difference in enumerate(diff(known, listed, Filter())):
                fetched, stored = None, difference.listed
                if stored and not (self._has(stored) and difference.change is Change.UNCHANGED):
                    part = self._partial / str(number)
                    fetched = readers.submit(self._fetch, bucket, stored, part)
                waiting.append((difference, fetched))
                if len(waiting) > AHEAD:
                    yield from self._apply(*waiting.popleft(), result)
            while waiting:
                yield from self._apply(*waiting.popleft(), result)
        finally:
            readers.shutdown(cancel_futures=True)

    def _fetch(self, bucket: Bucket, stored: StoredObject, part: Path) -> Path:
        with self._disk(), part.open("wb") as file:
            bucket.download(stored, _Sink(file, self._disk))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        check_size(bucket.uri(stored.key), size, stored.size)
        return part

    def _apply(
        self, difference: Difference, fetched: Future[Path] | None, result: CopyResult
    ) -> Iterator[tuple[_Entry, Path | None]]:
        stored, known = difference.listed, difference.known
        if stored is None:
            self._remove(difference.key)
            result.removed += 1
            return
        if fetched is None:
            result.kept += 1
            yield _entry(stored), None
            return
        try:
            part = fetched.result()
        except ObjectNotFoundError as error:
            result.skipped.append(str(error))
            self._remove(difference.key)
        except (ObjectChangedError, ObjectRefusedError) as error:  # the next version may do better
            result.skipped.append(str(error))
            yield from self._keep(known)
        except BucketUnavailableError as error:  # the next update tries again
            result.skipped.append(str(error))
            result.failed += 1
            if result.failed >= MAX_REFUSED:
                raise
            yield from self._keep(known)
        except BucketAccessError as error:
            result.refused.append(str(error))
            if len(result.refused) >= MAX_REFUSED:
                raise
            yield from self._keep(known)
        else:
            result.fetched, result.failed = result.fetched + 1, 0
            result.bytes += stored.size
            yield _entry(stored), part

    def _keep(self, known: KnownObject | None) -> Iterator[tuple[_Entry, Path | None]]:
        """Yield the old entry if its file is still there."""
        if known and self._has(known):
            yield _entry(known), None

    # -- files ----------------------------------------------------------------------------

    def _file(self, key: str) -> Path:
        """Return an object's file. Raises ``LocalCopyError`` if a link leads out of the copy."""
        file = self.files / local_path(key)
        if file.parent.exists() and not file.parent.resolve().is_relative_to(self.files.resolve()):
            raise LocalCopyError(
                f"{file.parent}: a symbolic link leads out of the local copy.",
                hint="Remove it, then run again.",
            )
        return file

    def _has(self, item: StoredObject | KnownObject) -> bool:
        file = self._file(item.key)
        return file.is_file() and not file.is_symlink() and file.stat().st_size == item.size

    def _move(self, part: Path, key: str) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        part.replace(file)

    def _remove(self, key: str) -> None:
        file = self._file(key)
        file.unlink(missing_ok=True)
        for folder in file.parents:
            if folder == self.files or not folder.exists() or any(folder.iterdir()):
                return
            folder.rmdir()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise LocalCopyError(
                f"{error.filename or self.root}: the local copy can't be written ({reason}).",
                hint="Free space, or let this user write there; the next run continues.",
            ) from error


class _Sink:
    """A file whose write errors are not mistaken for network errors."""

    def __init__(
        self, file: IO[bytes], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._file, self._translated = file, translated

    def write(self, data: bytes) -> int:
        with self._translated():
            return self._file.write(data)

    def writelines(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.write(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _entry(item: StoredObject | KnownObject) -> _Entry:
    key, version, size, _ = item
    return {"key": key, "version": version, "size": size, "file": f"files/{local_path(key)}"}


def _entries(index: Path) -> Iterator[_Entry]:
    """Yield the entries of an index, up to an incomplete line."""
    if not index.exists():
        return
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield json.loads(line)
