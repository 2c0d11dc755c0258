"""Read the snapshots of training data in a bucket.

Nothing there is trusted: names, paths and sizes are checked before anything is read.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from ls_pipeline.domain.errors import ObjectNotFoundError, SnapshotError
from ls_pipeline.domain.snapshot.manifest import (
    LATEST_BYTES,
    MANIFEST_BYTES,
    Latest,
    Manifest,
    is_snapshot_file,
    is_snapshot_name,
    latest_key,
    manifest_key,
    snapshot_folder,
    snapshots_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.domain.snapshot.manifest import File
    from ls_pipeline.resources.bucket import Readable

CHUNK = 2**20
"""Bytes of a file that are in memory at once while it is verified."""

_Document = TypeVar("_Document", bound=BaseModel)


@dataclass(frozen=True)
class Snapshots:
    """The snapshots below one prefix of a bucket. All methods may raise ``BucketError``."""

    bucket: Readable
    prefix: str

    def uri(self, name: str) -> str:
        """Return the URI of a snapshot's folder."""
        return self.bucket.uri(snapshot_folder(self.prefix, name))

    def latest(self) -> tuple[Latest | None, str]:
        """Return the content of ``latest.json``, and its version; (None, "") if it is missing.

        Raises ``SnapshotError`` if it is damaged.
        """
        key = latest_key(self.prefix)
        stored = self._find(key)
        if stored is None:
            return None, ""
        return self._read(Latest, stored, LATEST_BYTES), stored.version

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a snapshot.

        Raises ``SnapshotError`` if the snapshot is missing or damaged.
        """
        stored = self._find(manifest_key(self.prefix, name)) if is_snapshot_name(name) else None
        if stored is None:
            raise SnapshotError(
                f"There is no snapshot {name!r} in "
                f"{self.bucket.uri(snapshots_folder(self.prefix))}.",
                hint="The file latest.json names the newest.",
            )
        manifest = self._read(Manifest, stored, MANIFEST_BYTES)
        if manifest.snapshot != name:
            raise self._damaged(stored.key)
        return manifest

    def read(self, name: str, file: File) -> bytes:
        """Return the content of a snapshot's file.

        Raises ``SnapshotError`` if it is gone, or differs from what was written.
        """
        stored = self._stored(name, file)
        try:
            body = self.bucket.get(stored.key, stored.version)
        except ObjectNotFoundError as error:
            raise self._gone(stored.key) from error
        if hashlib.sha256(body).hexdigest() != file.sha256:
            raise self._damaged(stored.key)
        return body

    def verify(self, name: str, file: File, path: Path) -> None:
        """Raise as `read` does if a snapshot's file on disk, at ``path``, is not as written."""
        stored = self._stored(name, file)
        if not _is_intact(path, file):
            raise self._damaged(stored.key)

    def fetch(self, name: str, file: File, to: Path) -> None:
        """Write a snapshot's file to disk, in chunks, unless it is there. Raises as `read` does."""
        if _is_intact(to, file):
            return
        stored = self._stored(name, file)
        to.parent.mkdir(parents=True, exist_ok=True)
        draft = to.with_suffix(f".{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                self.bucket.download(stored, stream)
            if not _is_intact(draft, file):
                raise self._damaged(stored.key)
            draft.replace(to)
        except ObjectNotFoundError as error:
            raise self._gone(stored.key) from error
        finally:
            draft.unlink(missing_ok=True)

    def objects(self, name: str = "") -> Iterator[StoredObject]:
        """Yield the objects of one snapshot, or of all."""
        place = snapshot_folder(self.prefix, name) if name else snapshots_folder(self.prefix)
        return (stored for page in self.bucket.pages(place) for stored in page)

    def by_name(self) -> dict[str, list[StoredObject]]:
        """Return the objects of each snapshot, complete or not, by its name; no other objects."""
        objects: dict[str, list[StoredObject]] = {}
        root = snapshots_folder(self.prefix)
        for stored in self.objects():
            name, _, path = stored.key[len(root) :].partition("/")
            if is_snapshot_name(name) and is_snapshot_file(path):
                objects.setdefault(name, []).append(stored)
        return objects

    def _find(self, key: str) -> StoredObject | None:
        # Listed, not read: for an absent object, S3 answers "access denied" if the credentials may
        # list one folder only.
        page = next(self.bucket.pages(key), [])
        return next((item for item in page if item.key == key), None)

    def _stored(self, name: str, file: File) -> StoredObject:
        """Return a snapshot's file as the bucket has it now, in the size that was written."""
        key = snapshot_folder(self.prefix, name) + file.path
        stored = self._find(key)
        if stored is None:
            raise self._gone(key)
        if stored.size != file.bytes:
            raise self._damaged(key)
        return stored

    def _read(self, kind: type[_Document], stored: StoredObject, most: int) -> _Document:
        if stored.size > most:
            raise self._damaged(stored.key)
        try:
            return kind.model_validate_json(self.bucket.get(stored.key, stored.version))
        except ValidationError as error:
            raise self._damaged(stored.key) from error

    def _gone(self, key: str) -> SnapshotError:
        return SnapshotError(f"{self.bucket.uri(key)} is gone.", hint="Use a newer snapshot.")

    def _damaged(self, key: str) -> SnapshotError:
        return SnapshotError(
            f"{self.bucket.uri(key)} was damaged or replaced.",
            hint="Restore it, or use another snapshot.",
        )


def _is_intact(path: Path, file: File) -> bool:
    """Return whether a file on disk is as it was written to the bucket."""
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    sha256 = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            sha256.update(chunk)
    return sha256.hexdigest() == file.sha256
