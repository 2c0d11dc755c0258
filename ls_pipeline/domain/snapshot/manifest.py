"""Snapshots of training data: their names, and the documents that describe them.

A snapshot is a folder that never changes: three tables in parts, and last its manifest.

Whoever can write to the bucket can change the documents. So their types allow only the names and
paths that `snapshot_name` and `part_path` make: no path leads out of the snapshot's folder.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ls_pipeline.domain.converters.shown import class_list
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.formats import ANNOTATIONS, FORMATS
from ls_pipeline.domain.snapshot.splits import Split
from ls_pipeline.domain.snapshot.tables import TABLES, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

LATEST_BYTES = 64 * 1024
"""Maximum size of ``latest.json``."""

MANIFEST_BYTES = 64 * 1024 * 1024
"""Maximum size of a manifest. A part takes 2 KB, and more with many labels."""

_NAME = r"[0-9]{8,18}-[0-9a-f]{12}"
_PATH = rf"(?:{'|'.join(TABLES)})/part-[0-9]{{8,19}}\.parquet"
_MOST = 2**63 - 1

Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
"""A snapshot's name."""

Count = Annotated[int, Field(ge=0, le=_MOST)]
SHA256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


_T = TypeVar("_T")


def _of_all_tables(by_table: dict[Table, _T]) -> dict[Table, _T]:
    if len(by_table) < len(TABLES):
        raise ValueError("a table is missing")
    return by_table


class _Document(BaseModel):
    """A JSON document in the bucket; fields that a newer version added are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def as_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


class File(_Document):
    """One Parquet file of a snapshot; ``path`` is relative to the snapshot's folder."""

    path: Annotated[str, Field(pattern=f"^{_PATH}$")]
    rows: Count
    bytes: Count
    sha256: SHA256
    version: str = ""
    """The object's version when the snapshot was finished; if it differs, the file was replaced."""


class Tally(_Document):
    """Counts over a part, or over a whole snapshot."""

    tasks: Count = 0
    annotations: Count = 0
    """Finished annotations, without skipped ones."""
    skipped: Count = 0
    splits: dict[Split, Count] = {}
    """Split → tasks."""
    labels: dict[str, dict[str, dict[Split, Count]]] = {}
    """Control → label → split → results, without those of skipped tasks."""
    agreement: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The sum over the tasks that several annotators finished."""
    compared: Count = 0
    """The number of those tasks."""
    labels_until: str = ""
    """When the newest annotation was changed."""


class Part(_Document):
    """The tasks whose ids are from ``first`` to ``last``."""

    first: Count
    last: Count
    digest: SHA256
    files: Annotated[dict[Table, File], AfterValidator(_of_all_tables)]
    """Table → its file."""
    tally: Tally

    @model_validator(mode="after")
    def _check(self) -> Self:
        paths = {table: part_path(table, self.first) for table in self.files}
        if self.first > self.last or paths != {t: file.path for t, file in self.files.items()}:
            raise ValueError("the part's files are not those of its range of ids")
        return self


class Changes(_Document):
    """Numbers of tasks that changed since the previous snapshot."""

    new: Count = 0
    changed: Count = 0
    removed: Count = 0
    moved: Count = 0
    """Tasks that are in another split than before."""


class LeakedTask(_Document):
    """A task whose content is also in another split."""

    task_id: Count
    split: Split


class Leaks(_Document):
    """Equal content in several splits."""

    contents: Count = 0
    tasks: Count = 0
    """The tasks that have one of these contents."""
    examples: list[list[LeakedTask]] = []
    """For some contents, the first task of each split that has it."""


class Manifest(_Document):
    """Everything about a snapshot; written after all its files."""

    snapshot: Name
    number: Count
    previous: Name | Literal[""]
    """Name of the previous snapshot; empty for the first."""
    schema_version: Annotated[str, Field(pattern="^[0-9]{1,9}$")]
    connection: str
    project: int
    """Label Studio's id."""
    label_config: str
    classes: list[str] = []
    """The classes of regions on pictures, in the order of their indices. A later snapshot keeps the
    order and adds new classes at the end."""
    label_studio_version: str
    settings_revision: int
    pyarrow_version: str
    shares: dict[str, float]
    group_by: str = ""
    """What kept tasks in one split, as the target's param says it."""
    rows: Annotated[dict[Table, Count], AfterValidator(_of_all_tables)]
    """Table → rows."""
    bytes: Count
    changes: Changes
    tally: Tally
    leaks: Leaks = Leaks()
    parts: list[Part]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(part.last >= following.first for part, following in pairwise(self.parts)):
            raise ValueError("the parts are not in the order of their ids")
        return self

    @property
    def class_list(self) -> list[str]:
        """The classes, also of a snapshot from before they were stored."""
        return self.classes or class_list(self.label_config, self.tally.labels)

    def files(self, table: str) -> list[File]:
        """Return the files of a table, in the order of task ids."""
        return [file for part in self.parts for name, file in part.files.items() if name == table]


class Latest(_Document):
    """The content of ``latest.json``, which names the newest complete snapshot."""

    snapshot: Name
    number: Count
    manifest: str
    """The manifest's key in the bucket where the snapshot was made; it may be a copy."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not f"/{self.manifest}".endswith("/" + manifest_key("", self.snapshot)):
            raise ValueError("the manifest is that of another snapshot")
        return self


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


def archive_path(name: str, annotations: str, ending: str = "zip") -> str:
    """Return the path of a conversion of a snapshot, relative to the formats folder."""
    return f"{name}.{ending}" if annotations == "all" else f"{name}-{annotations}.{ending}"


def part_path(table: str, first: int) -> str:
    """Return the path of a part's file, relative to the snapshot's folder."""
    return f"{table}/part-{first:08}.parquet"


def is_snapshot_name(name: str) -> bool:
    """Return whether a name is one that `snapshot_name` makes."""
    return bool(re.fullmatch(_NAME, name))


def is_snapshot_file(path: str) -> bool:
    """Return whether a path, relative to a snapshot's folder, is that of a file of ours."""
    return bool(path == "manifest.json" or re.fullmatch(_PATH, path))


def is_archive(path: str) -> bool:
    """Return whether a path, relative to a formats folder, is that of a conversion of ours."""
    stem, _, ending = path.partition(".")
    name, _, annotations = stem.partition("-")
    known = name in FORMATS and annotations in {"", *ANNOTATIONS}
    return known and ending in {"zip", "lost.json"}


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
