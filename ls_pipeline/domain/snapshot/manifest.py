"""Snapshots of training data: how they are named, parted, checked and described.

A snapshot is a folder that never changes: three tables in parts, and last its manifest. A part
holds the tasks of a range of ids, so that what did not change since the snapshot before is the
same part, byte for byte, and is copied inside the bucket.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.splits import SPLITS, Shares, split_of
from ls_pipeline.domain.snapshot.tables import SCHEMA_VERSION, TABLES, VERSION_MARK, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

PART_TASKS = 5000
"""The width of a part's range of task ids."""

ROW_GROUP = 50_000
"""Rows; of results that is a few MB."""

_ORDER = {
    "tasks": ("task_id",),
    "annotations": ("task_id", "annotation_id"),
    "results": ("task_id", "annotation_id", "result_index"),
}


class _Document(BaseModel):
    """A part of what is written; fields that a newer version added are kept."""

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
    """The bucket's, when the snapshot was finished; with another, somebody replaced the file."""


class Tally(_Document):
    """What people want to know of a part, or of a whole snapshot, at a glance."""

    tasks: int = 0
    annotations: int = 0
    """Skipped ones left out."""
    skipped: int = 0
    splits: dict[str, int] = {}
    """Split → tasks."""
    labels: dict[str, dict[str, dict[str, int]]] = {}
    """Control → label → split → results, those of skipped tasks left out."""
    agreement: float = 0.0
    """The sum over the tasks that several annotators finished."""
    compared: int = 0
    """The number of those tasks."""
    labels_until: str = ""
    """When the newest annotation was changed."""


class Part(_Document):
    """The tasks whose ids lie from ``first`` to ``last``."""

    first: int
    last: int
    digest: str
    files: dict[str, File]
    """Table → its file."""
    tally: Tally


class Changes(_Document):
    """What became of tasks since the snapshot before."""

    new: int = 0
    changed: int = 0
    removed: int = 0


class Manifest(_Document):
    """Everything about a snapshot; written when all its files are there."""

    snapshot: str
    number: int
    previous: str
    """The name of the snapshot before; empty of the first."""
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
        """List the files of a table, in the order of task ids."""
        return [part.files[table] for part in self.parts]


class Latest(_Document):
    """What ``latest.json`` says: the newest snapshot that is complete."""

    snapshot: str
    number: int
    manifest: str
    """The manifest's key in the bucket."""


# -- names --------------------------------------------------------------------------------------


def training_folder(prefix: str) -> str:
    """Name the folder that training data is below: ``<prefix>/training_data/``."""
    return f"{folder(prefix)}training_data/"


def latest_key(prefix: str) -> str:
    """Name the object that says which snapshot is the newest."""
    return f"{training_folder(prefix)}latest.json"


def snapshots_folder(prefix: str) -> str:
    """Name the folder of all snapshots."""
    return f"{training_folder(prefix)}snapshots/"


def snapshot_folder(prefix: str, name: str) -> str:
    """Name the folder of one snapshot."""
    return f"{snapshots_folder(prefix)}{name}/"


def manifest_key(prefix: str, name: str) -> str:
    """Name the object that makes a snapshot complete."""
    return f"{snapshot_folder(prefix, name)}manifest.json"


def formats_folder(prefix: str, name: str) -> str:
    """Name the folder of what one snapshot was also converted to."""
    return f"{training_folder(prefix)}formats/{name}/"


def snapshot_name(number: int, parts: Iterable[str]) -> str:
    """Name a snapshot, so that names sort by age, and other contents have another name."""
    content = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{number:08}-{content[:12]}"


# -- parts --------------------------------------------------------------------------------------


def part_digest(content: Iterable[tuple[int, str]], shares: Shares) -> str:
    """Hash what a part's bytes depend on: (task id, its completion's digest), by id."""
    import pyarrow as pa

    how = [SCHEMA_VERSION, pa.__version__, shares.validation, shares.test]
    found = hashlib.sha256(json.dumps(how).encode())
    for task_id, digest in content:
        found.update(f"\n{task_id} {digest}".encode())
    return found.hexdigest()


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Give rows as a table of the declared schema."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema(name))


def merged(name: str, old: pa.Table, leave_out: Iterable[int], new: pa.Table) -> pa.Table:
    """Replace some tasks' rows; the result is what all rows together would have given."""
    import pyarrow as pa
    import pyarrow.compute as pc

    compute: Any = pc  # its functions are made at run time

    gone = pa.array(sorted(leave_out), pa.int64())
    kept = old.filter(compute.invert(compute.is_in(old["task_id"], gone)))
    whole = pa.concat_tables([kept, new])
    return whole.sort_by([(column, "ascending") for column in _ORDER[name]]).combine_chunks()


def parquet(table: pa.Table) -> bytes:
    """Write a table as a Parquet file; the same rows give the same bytes."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(  # type: ignore[no-untyped-call]
        table.combine_chunks(),
        file,
        compression="zstd",
        row_group_size=ROW_GROUP,
        write_page_index=True,
    )
    return file.getvalue()


def read_parquet(name: str, body: bytes) -> pa.Table:
    """Read a file of a snapshot. Raises `SnapshotError` when it has another schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not a Python file: Arrow's threads may outlive the interpreter, and then abort.
        table = pq.read_table(pa.BufferReader(body))  # type: ignore[no-untyped-call]
    except pa.ArrowException as error:
        raise SnapshotError(f"A file of {name} is no Parquet: {error}") from error
    if not is_declared(name, table.schema):
        raise SnapshotError(f"A file of {name} has another schema than version {SCHEMA_VERSION}.")
    # Parquet leaves marks on the types of nested columns.
    return pa.Table.from_arrays(
        [
            column.cast(field.type)
            for column, field in zip(table.columns, schema(name), strict=True)
        ],
        schema=schema(name),
    )


def is_declared(name: str, found: pa.Schema) -> bool:
    """Tell whether a schema is the declared one, and says so."""
    declared = schema(name)
    marks = [(one.metadata or {}).get(VERSION_MARK) for one in (found, declared)]
    return bool(found.equals(declared)) and marks[0] == marks[1]


def file_of(table: str, number: int, rows: int, body: bytes) -> File:
    """Describe a part's file of a table."""
    digest = hashlib.sha256(body).hexdigest()
    path = f"{table}/part-{number:08}.parquet"
    return File(path=path, rows=rows, bytes=len(body), sha256=digest)


def tally_of(tables: Mapping[str, pa.Table]) -> Tally:
    """Count what is in a part."""
    tasks, annotations, results = (tables[name] for name in TABLES)
    labels: dict[str, dict[str, dict[str, int]]] = {}
    names = ("from_name", "labels", "split", "was_cancelled")
    columns = [results[name].to_pylist() for name in names]
    for control, found, split, skipped in zip(*columns, strict=True):
        for label in () if skipped else found or ():
            counts = labels.setdefault(control or "", {}).setdefault(label, {})
            counts[split] = counts.get(split, 0) + 1
    compared = [one for one in tasks["agreement"].to_pylist() if one is not None]
    times = [one for one in annotations["updated_at"].to_pylist() if one is not None]
    return Tally(
        tasks=tasks.num_rows,
        annotations=sum(tasks["annotations"].to_pylist()),
        skipped=sum(tasks["skipped"].to_pylist()),
        splits=dict(sorted(Counter(tasks["split"].to_pylist()).items())),
        labels=_sorted(labels),
        agreement=sum(compared),
        compared=len(compared),
        labels_until=max(times).isoformat() if times else "",
    )


def total(tallies: Sequence[Tally]) -> Tally:
    """Add up the tallies of parts."""
    labels: dict[str, dict[str, dict[str, int]]] = {}
    splits: Counter[str] = Counter()
    for one in tallies:
        splits.update(one.splits)
        for control, found in one.labels.items():
            for label, counts in found.items():
                into = labels.setdefault(control, {}).setdefault(label, {})
                for split, number in counts.items():
                    into[split] = into.get(split, 0) + number
    return Tally(
        tasks=sum(one.tasks for one in tallies),
        annotations=sum(one.annotations for one in tallies),
        skipped=sum(one.skipped for one in tallies),
        splits=dict(sorted(splits.items())),
        labels=_sorted(labels),
        agreement=sum(one.agreement for one in tallies),
        compared=sum(one.compared for one in tallies),
        labels_until=max((one.labels_until for one in tallies), default=""),
    )


def _sorted(
    labels: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> dict[str, dict[str, dict[str, int]]]:
    return {
        control: {
            label: {split: found[label][split] for split in SPLITS if split in found[label]}
            for label in sorted(found)
        }
        for control, found in sorted(labels.items())
    }


# -- what must be true of a part ----------------------------------------------------------------


def failed_checks(first: int, tables: Mapping[str, pa.Table], shares: Shares) -> dict[str, str]:
    """Give what is wrong with a part: check → a sentence; empty when nothing is.

    The checks are ``no_orphans``, ``no_duplicates``, ``schema_as_declared`` and
    ``no_split_leak``. Parts' ranges of tasks are apart, so that none can break them across.
    """
    ids = {
        "tasks": tables["tasks"]["task_id"].to_pylist(),
        "annotations": tables["annotations"]["annotation_id"].to_pylist(),
        "results": list(
            zip(
                tables["results"]["annotation_id"].to_pylist(),
                tables["results"]["result_index"].to_pylist(),
                strict=True,
            )
        ),
    }
    found = {}
    for name, table in tables.items():
        if not is_declared(name, table.schema):
            found["schema_as_declared"] = f"{name} has not the schema of version {SCHEMA_VERSION}."
        if doubled := [one for one, count in Counter(ids[name]).items() if count > 1]:
            found["no_duplicates"] = f"{name} has {doubled[0]} twice."
        wrong = _wrong_splits(table, shares)
        if wrong:
            found["no_split_leak"] = f"{wrong} is in another split in {name} than it belongs to."
    outside = [one for one in ids["tasks"] if not first <= one < first + PART_TASKS]
    outside += set(tables["annotations"]["task_id"].to_pylist()) - set(ids["tasks"])
    if outside:
        found["no_orphans"] = f"Task {outside[0]} is not where it belongs."
    if lost := {one for one, _ in ids["results"]} - set(ids["annotations"]):
        found["no_orphans"] = f"There are results of annotation {min(lost)}, but not itself."
    return found


def _wrong_splits(table: pa.Table, shares: Shares) -> str:
    columns = [table[name].to_pylist() for name in ("object_uri", "task_id", "split")]
    for uri, task_id, split in set(zip(*columns, strict=True)):
        if split != split_of(uri or f"task {task_id}", shares):
            return uri or f"task {task_id}"
    return ""


# -- which may go -------------------------------------------------------------------------------


def expired(
    written: Mapping[str, float], latest: str, now: float, keep: int, keep_days: int
) -> list[str]:
    """List the snapshots that retention lets go, given when each was written (seconds).

    Kept are the newest ``keep``, those younger than ``keep_days``, and always the latest.
    """
    newest = sorted(written, reverse=True)[:keep]
    return [
        name
        for name, at in sorted(written.items())
        if name not in newest and name != latest and at < now - keep_days * 24 * 3600
    ]
