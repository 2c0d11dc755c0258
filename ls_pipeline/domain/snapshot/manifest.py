"""Snapshots of training data: their names, and the documents that describe them.

A snapshot is a folder that never changes: three tables in parts, and last its manifest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ls_pipeline.domain.objects import folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Document(BaseModel):
    """A JSON document in the bucket; fields that a newer version added are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def as_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


class File(_Document):
    """One Parquet file of a snapshot; ``path`` is relative to the snapshot's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str
    version: str = ""
    """The object's version when the snapshot was finished; if it differs, the file was replaced."""


class Tally(_Document):
    """Counts over a part, or over a whole snapshot."""

    tasks: int = 0
    annotations: int = 0
    """Finished annotations, without skipped ones."""
    skipped: int = 0
    splits: dict[str, int] = {}
    """Split → tasks."""
    labels: dict[str, dict[str, dict[str, int]]] = {}
    """Control → label → split → results, without those of skipped tasks."""
    agreement: float = 0.0
    """The sum over the tasks that several annotators finished."""
    compared: int = 0
    """The number of those tasks."""
    labels_until: str = ""
    """When the newest annotation was changed."""


class Part(_Document):
    """The tasks whose ids are from ``first`` to ``last``."""

    first: int
    last: int
    digest: str
    files: dict[str, File]
    """Table → its file."""
    tally: Tally


class Changes(_Document):
    """Numbers of tasks that changed since the previous snapshot."""

    new: int = 0
    changed: int = 0
    removed: int = 0


class Manifest(_Document):
    """Everything about a snapshot; written after all its files."""

    snapshot: str
    number: int
    previous: str
    """Name of the previous snapshot; empty for the first."""
    schema_version: str
    connection: str
    project: int
    """Label Studio's id."""
    label_config: str
    label_studio_version: str
    settings_revision: int
    pyarrow_version: str
    shares: dict[str, float]
    rows: dict[str, int]
    """Table → rows."""
    bytes: int
    changes: Changes
    tally: Tally
    parts: list[Part]

    def files(self, table: str) -> list[File]:
        """Return the files of a table, in the order of task ids."""
        return [part.files[table] for part in self.parts]


class Latest(_Document):
    """The content of ``latest.json``, which names the newest complete snapshot."""

    snapshot: str
    number: int
    manifest: str
    """The manifest's key in the bucket."""


def training_folder(prefix: str) -> str:
    """Return the folder of all training data: ``<prefix>/training_data/``."""
    return f"{folder(prefix)}training_data/"


def latest_key(prefix: str) -> str:
    """Return the key of the object that names the newest snapshot."""
    return f"{training_folder(prefix)}latest.json"


def snapshots_folder(prefix: str) -> str:
    """Return the folder of all snapshots."""
    return f"{training_folder(prefix)}snapshots/"


def snapshot_folder(prefix: str, name: str) -> str:
    """Return the folder of one snapshot."""
    return f"{snapshots_folder(prefix)}{name}/"


def manifest_key(prefix: str, name: str) -> str:
    """Return the key of the manifest, which makes a snapshot complete."""
    return f"{snapshot_folder(prefix, name)}manifest.json"


def formats_folder(prefix: str, name: str) -> str:
    """Return the folder of a snapshot's conversions to other formats."""
    return f"{training_folder(prefix)}formats/{name}/"


def snapshot_name(number: int, parts: Iterable[str]) -> str:
    """Return a name that sorts by age and differs if the content differs."""
    content = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{number:08}-{content[:12]}"


def expired(
    written: Mapping[str, float], latest: str, now: float, keep: int, keep_days: int
) -> list[str]:
    """Return the names of the snapshots that retention may delete.

    ``written`` has the time (seconds) of each. Retention keeps the newest ``keep``, those younger
    than ``keep_days``, and always the latest.
    """
    newest = sorted(written, reverse=True)[:keep]
    return [
        name
        for name, time in sorted(written.items())
        if name not in newest and name != latest and time < now - keep_days * 24 * 3600
    ]
