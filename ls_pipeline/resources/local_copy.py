"""A folder that mirrors objects of a bucket: ``files/``, and an index of which key is which.

``index.jsonl`` has a line an object, in the order of the keys' bytes. While the copy is
brought up to date, ``index.jsonl.new`` grows beside it, so that a pass that was killed goes
on where it stopped: a line is written, then its file is moved into place, so of the last
line alone it is not known whether that was done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket

READERS = 8
AHEAD = 32
"""Objects fetched at once, and those that may wait for their turn."""

REFUSED_AT_MOST = 20
"""Objects that may not be read, before it is the bucket's fault."""


@dataclass
class CopyResult:
    """What became of a copy, for people to read."""

    fetched: int = 0
    removed: int = 0
    kept: int = 0
    bytes: int = 0
    """Of what was fetched."""
    skipped: list[str] = field(default_factory=list)
    """Objects that changed or went while they were read, each a sentence."""
    refused: list[str] = field(default_factory=list)
    """Objects that may not be read, each a sentence."""


class LocalCopy:
    """A copy of objects below ``root``; one process at a time may work on it."""

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
        told: Callable[[int], None] = lambda _done: None,
    ) -> CopyResult:
        """Make the copy equal to what is listed, in the order of the keys' bytes.

        Memory stays flat. A replaced object keeps its old file until the new one is there
        whole; one that changes while it is read keeps it until the next time.

        Raises ``BucketError``, and ``LocalCopyError`` when the disk refuses; either way the
        next call goes on where this one stopped.
        """
        done = CopyResult()
        with self._disk():
            self._begin()
            with self._new.open("w", encoding="utf-8") as index:
                for line in self._brought_up_to_date(bucket, listed, done):
                    index.write(json.dumps(line.entry) + "\n")
                    index.flush()
                    line.finish()
                    told(done.fetched + done.kept)
                os.fsync(index.fileno())
            self._new.replace(self._index)
        return done

    def entries(self) -> Iterator[dict[str, Any]]:
        """List the index: ``key``, ``version``, ``size`` in bytes, and ``file`` below the root."""
        return _entries(self._index)

    # -- what an earlier call left ----------------------------------------------------------

    def _begin(self) -> None:
        self.files.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        if self._new.exists():
            self._merge()

    def _merge(self) -> None:
        """Take over what an interrupted call had done, so that it is not done again."""
        merged = self.root / "index.jsonl.merged"
        last = ""
        with merged.open("w", encoding="utf-8") as index:
            for entry, is_last in _with_last(_entries(self._new)):
                if is_last:
                    self._file(entry["key"]).unlink(missing_ok=True)
                else:
                    index.write(json.dumps(entry) + "\n")
                    last = entry["key"]
            for entry in self.entries():
                if entry["key"] > last:
                    index.write(json.dumps(entry) + "\n")
            index.flush()
            os.fsync(index.fileno())
        merged.replace(self._index)
        self._new.unlink()

    # -- object by object ---------------------------------------------------------------------

    def _brought_up_to_date(
        self, bucket: Bucket, listed: Iterable[StoredObject], done: CopyResult
    ) -> Iterator[_Line]:
        """Give the lines of the new index, in order, each when its file is ready."""
        known = (
            KnownObject(one["key"], one["version"], one["size"], State.LOADED)
            for one in self.entries()
        )
        readers = ThreadPoolExecutor(READERS)
        waiting: deque[tuple[Difference, Future[Path] | None]] = deque()
        try:
            for number, difference in enumerate(diff(known, listed, Filter())):
                fetched = None
                if self._is_wanted(difference):
                    place = self._partial / str(number)
                    fetched = readers.submit(self._fetch, bucket, difference, place)
                waiting.append((difference, fetched))
                if len(waiting) > AHEAD:
                    yield from self._settled(*waiting.popleft(), done)
            while waiting:
                yield from self._settled(*waiting.popleft(), done)
        finally:
            readers.shutdown(cancel_futures=True)

    def _is_wanted(self, difference: Difference) -> bool:
        if difference.listed is None:
            return False
        whole = self._has(difference.key, difference.listed.size)
        return difference.change is not Change.UNCHANGED or not whole

    def _fetch(self, bucket: Bucket, difference: Difference, place: Path) -> Path:
        one = difference.listed
        if one is None:
            raise ValueError(difference.key)
        with self._disk(), place.open("wb") as file:
            bucket.download(one, _Sink(file, self._disk))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if size != one.size:
            raise BucketUnavailableError(
                bucket.uri(one.key), f"{size} of its {one.size} bytes came; try again."
            )
        return place

    def _settled(
        self, difference: Difference, fetched: Future[Path] | None, done: CopyResult
    ) -> Iterator[_Line]:
        one, was = difference.listed, difference.known
        if one is None:
            self._remove(difference.key)
            done.removed += 1
            return
        if fetched is None:
            done.kept += 1
            yield _Line(_entry(one.key, one.version, one.size))
            return
        try:
            place = fetched.result()
        except ObjectNotFoundError as error:
            done.skipped.append(str(error))
            self._remove(difference.key)
        except ObjectChangedError as error:
            done.skipped.append(str(error))
            yield from self._as_before(was)
        except ObjectRefusedError as error:  # for what it is: its next version may be fetched
            done.skipped.append(str(error))
            yield from self._as_before(was)
        except BucketAccessError as error:
            done.refused.append(str(error))
            if len(done.refused) >= REFUSED_AT_MOST:
                raise
            yield from self._as_before(was)
        else:
            done.fetched += 1
            done.bytes += one.size
            entry = _entry(one.key, one.version, one.size)
            yield _Line(entry, lambda: self._place(place, one.key))

    def _as_before(self, was: KnownObject | None) -> Iterator[_Line]:
        if was and self._has(was.key, was.size):
            yield _Line(_entry(was.key, was.version, was.size))

    # -- files ----------------------------------------------------------------------------

    def _file(self, key: str) -> Path:
        """Name an object's file; no link leads to it from outside."""
        file = self.files / local_path(key)
        if file.parent.exists() and not file.parent.resolve().is_relative_to(self.files.resolve()):
            raise LocalCopyError(
                str(file.parent), "a link leads out of the local copy; remove it, then run again."
            )
        return file

    def _has(self, key: str, size: int) -> bool:
        file = self._file(key)
        return file.is_file() and not file.is_symlink() and file.stat().st_size == size

    def _place(self, place: Path, key: str) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        place.replace(file)

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
            said = error.strerror or type(error).__name__
            raise LocalCopyError(
                str(error.filename or self.root),
                f"the local copy can't be written ({said}); make room, or let this user write "
                "there, and the next pass goes on.",
            ) from error


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the index, and what is to be done once it is written."""

    entry: dict[str, Any]
    finish: Callable[[], None] = lambda: None


class _Sink:
    """A file whose own failures are not taken for the network's."""

    def __init__(
        self, file: IO[bytes], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._file, self._translated = file, translated

    def write(self, data: bytes) -> int:
        with self._translated():
            return self._file.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _entry(key: str, version: str, size: int) -> dict[str, Any]:
    return {"key": key, "version": version, "size": size, "file": f"files/{local_path(key)}"}


def _entries(index: Path) -> Iterator[dict[str, Any]]:
    """Read an index, up to a line that was never finished."""
    if not index.exists():
        return
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _with_last(entries: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Tell of each entry whether it is the last."""
    before: dict[str, Any] | None = None
    for entry in entries:
        if before is not None:
            yield before, False
        before = entry
    if before is not None:
        yield before, True
