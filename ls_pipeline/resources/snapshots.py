"""Read the snapshots of training data in a bucket."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from ls_pipeline.domain.errors import ObjectNotFoundError, SnapshotError
from ls_pipeline.domain.snapshot.manifest import (
    Latest,
    Manifest,
    latest_key,
    manifest_key,
    snapshot_folder,
    snapshots_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.domain.snapshot.manifest import File
    from ls_pipeline.resources.bucket import Readable

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
        # Listed first: for an absent object, S3 answers "access denied" if the credentials may
        # list one folder only.
        page = next(self.bucket.pages(key), [])
        stored = next((item for item in page if item.key == key), None)
        if stored is None:
            return None, ""
        return self._read(Latest, key, stored.version), stored.version

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a snapshot.

        Raises ``SnapshotError`` if the snapshot is missing or damaged.
        """
        try:
            return self._read(Manifest, manifest_key(self.prefix, name))
        except ObjectNotFoundError as error:
            raise SnapshotError(
                f"There is no snapshot {name!r} in "
                f"{self.bucket.uri(snapshots_folder(self.prefix))}.",
                hint="The file latest.json names the newest.",
            ) from error

    def read(self, name: str, file: File) -> bytes:
        """Return the content of a snapshot's file.

        Raises ``SnapshotError`` if it is gone, or differs from what was written.
        """
        key = snapshot_folder(self.prefix, name) + file.path
        try:
            body = self.bucket.get(key)
        except ObjectNotFoundError as error:
            raise SnapshotError(
                f"{self.bucket.uri(key)} is gone.", hint="Use a newer snapshot."
            ) from error
        if hashlib.sha256(body).hexdigest() != file.sha256:
            raise SnapshotError(
                f"{self.bucket.uri(key)} was damaged or replaced.", hint="Use another snapshot."
            )
        return body

    def objects(self, name: str = "") -> Iterator[StoredObject]:
        """Yield the objects of one snapshot, or of all."""
        place = snapshot_folder(self.prefix, name) if name else snapshots_folder(self.prefix)
        return (stored for page in self.bucket.pages(place) for stored in page)

    def by_name(self) -> dict[str, list[StoredObject]]:
        """Return the objects of each snapshot, complete or not, by its name."""
        objects: dict[str, list[StoredObject]] = {}
        root = snapshots_folder(self.prefix)
        for stored in self.objects():
            objects.setdefault(stored.key[len(root) :].partition("/")[0], []).append(stored)
        return objects

    def _read(self, kind: type[_Document], key: str, version: str = "") -> _Document:
        try:
            return kind.model_validate_json(self.bucket.get(key, version))
        except ValidationError as error:
            raise SnapshotError(
                f"{self.bucket.uri(key)} was damaged or replaced.",
                hint="Restore it, or remove it.",
            ) from error
