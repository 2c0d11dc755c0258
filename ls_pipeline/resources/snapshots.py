"""The snapshots of training data in a bucket: which there are, and what is in them."""

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
    """The snapshots below one prefix of a bucket. Methods raise ``BucketError``, too."""

    bucket: Readable
    prefix: str

    def uri(self, name: str) -> str:
        """Give the URI of a snapshot's folder."""
        return self.bucket.uri(snapshot_folder(self.prefix, name))

    def latest(self) -> tuple[Latest | None, str]:
        """Give what ``latest.json`` says, and its version; (None, "") where there is none.

        Raises ``SnapshotError`` when it is damaged.
        """
        key = latest_key(self.prefix)
        # Not asked for before it is there: S3 refuses an absent object to those who may list a
        # folder of the bucket only.
        page = next(self.bucket.pages(key), [])
        there = next((one for one in page if one.key == key), None)
        if there is None:
            return None, ""
        return self._read(Latest, key, there.version), there.version

    def manifest(self, name: str) -> Manifest:
        """Give the manifest of a snapshot.

        Raises ``SnapshotError`` when there is no such snapshot, or it is damaged.
        """
        try:
            return self._read(Manifest, manifest_key(self.prefix, name))
        except ObjectNotFoundError as error:
            raise SnapshotError(
                f"There is no snapshot {name!r} in {self.bucket.uri(snapshots_folder(self.prefix))}"
                "; latest.json there names the newest."
            ) from error

    def read(self, name: str, file: File) -> bytes:
        """Read a file of a snapshot.

        Raises ``SnapshotError`` when it is gone or not what was written.
        """
        key = snapshot_folder(self.prefix, name) + file.path
        try:
            body = self.bucket.get(key)
        except ObjectNotFoundError as error:
            raise SnapshotError(f"{self.bucket.uri(key)} is gone; take a newer one.") from error
        if hashlib.sha256(body).hexdigest() != file.sha256:
            raise SnapshotError(
                f"{self.bucket.uri(key)} is not what was written; take another snapshot."
            )
        return body

    def objects(self, name: str = "") -> Iterator[StoredObject]:
        """List the objects of a snapshot, or of all."""
        place = snapshot_folder(self.prefix, name) if name else snapshots_folder(self.prefix)
        return (one for page in self.bucket.pages(place) for one in page)

    def by_name(self) -> dict[str, list[StoredObject]]:
        """List what there is of all snapshots, complete or not."""
        found: dict[str, list[StoredObject]] = {}
        root = snapshots_folder(self.prefix)
        for one in self.objects():
            found.setdefault(one.key[len(root) :].partition("/")[0], []).append(one)
        return found

    def _read(self, kind: type[_Document], key: str, version: str = "") -> _Document:
        try:
            return kind.model_validate_json(self.bucket.get(key, version))
        except ValidationError as error:
            raise SnapshotError(
                f"{self.bucket.uri(key)} is not what was written; restore it, or remove it."
            ) from error
