"""A part of a snapshot: its digest, its Parquet files, its tally, and what must be true of it.

A part holds the tasks of a range of ids, which depends only on what the tasks hold. A part whose
tasks did not change since the previous snapshot is the same, byte for byte, and is copied inside
the bucket.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ls_pipeline.domain.batches import halves
from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.snapshot.manifest import File, Tally, part_path
from ls_pipeline.domain.snapshot.splits import SPLITS, SplitRule
from ls_pipeline.domain.snapshot.tables import SCHEMA_VERSION, TABLES, VERSION_KEY, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from ls_pipeline.domain.snapshot.manifest import Part
    from ls_pipeline.domain.snapshot.tables import Table

PART_TASKS = 5000
"""The width of the widest range of task ids."""

PART_BYTES = 16 * 1024 * 1024
"""Bytes of a part's completions, as JSON. A range with more is halved, down to a single task."""

ROW_GROUP = 50_000
"""Rows in a row group, at most."""

ROW_GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of texts and lists in a row group, unless it is a single row."""

LIST_ITEM_BYTES = 16
"""Counted for an item of a list, such as a point of a polygon."""

_ORDER = {
    "tasks": ("task_id",),
    "annotations": ("task_id", "annotation_id"),
    "results": ("task_id", "annotation_id", "result_index"),
}


class Content(NamedTuple):
    """What a target holds of a task."""

    task_id: int
    digest: str
    """The completion's; empty if a run began to write it."""
    size: int
    """The completion's, in bytes; equal digests mean equal sizes."""


class Range(NamedTuple):
    """The task ids of a part: the first and the last that it may have."""

    first: int
    last: int

    def overlaps(self, part: Part) -> bool:
        return self.first <= part.last and part.first <= self.last


def cut_parts(contents: Iterable[Content]) -> Iterator[tuple[Range, Sequence[Content]]]:
    """Cut what a target holds, ordered by id, into parts; return each with its range of ids.

    The cut depends on nothing else, so that each snapshot of the same completions has the same
    parts. Ranges without tasks are left out.
    """
    for number, group in itertools.groupby(contents, lambda item: item.task_id // PART_TASKS):
        held = list(group)
        ids = [item.task_id for item in held]
        sums = list(itertools.accumulate((item.size for item in held), initial=0))

        def positions(first: int, last: int, ids: list[int] = ids) -> tuple[int, int]:
            return bisect_left(ids, first), bisect_right(ids, last)

        def fits(first: int, last: int, sums: list[int] = sums) -> bool:
            start, stop = positions(first, last)
            return sums[stop] - sums[start] <= PART_BYTES

        widest = number * PART_TASKS, (number + 1) * PART_TASKS - 1
        for first, last in halves(*widest, fits):
            start, stop = positions(first, last)
            if start < stop:
                yield Range(first, last), held[start:stop]


def part_digest(content: Iterable[tuple[int, str]], rule: SplitRule) -> str:
    """Hash everything that a part's bytes depend on.

    ``content`` has each task's id and its completion's digest, ordered by id.
    """
    import pyarrow as pa

    settings: list[Any] = [SCHEMA_VERSION, pa.__version__, rule.validation, rule.test]
    if rule.group_by:
        settings.append(rule.group_by)
    sha256 = hashlib.sha256(json.dumps(settings).encode())
    for task_id, digest in content:
        sha256.update(f"\n{task_id} {digest}".encode())
    return sha256.hexdigest()


# -- tables and files -----------------------------------------------------------------------------


def to_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table of the declared schema."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema(name))


def merge_tables(
    name: str, old: Sequence[pa.Table], kept: Iterable[int], new: Sequence[pa.Table]
) -> pa.Table:
    """Add the rows of some tasks; the result equals a table made from all rows at once.

    Of the ``old`` rows, those of the tasks ``kept`` stay.
    """
    import pyarrow as pa

    stay = _rows_of(kept, old) if old else []
    merged = pa.concat_tables([schema(name).empty_table(), *stay, *new])
    if not _is_in_order(name, merged):
        merged = merged.sort_by([(column, "ascending") for column in _ORDER[name]])
    return merged.combine_chunks()


def _rows_of(task_ids: Iterable[int], tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Return the rows of some tasks. A first snapshot does without ``pyarrow.compute``: 15 MB."""
    import pyarrow as pa
    import pyarrow.compute as pc

    compute: Any = pc  # its functions are made at run time
    ids = pa.array(sorted(task_ids), pa.int64())
    return [table.filter(compute.is_in(table["task_id"], ids)) for table in tables]


def _is_in_order(name: str, table: pa.Table) -> bool:
    columns = [table[column].to_pylist() for column in _ORDER[name]]
    return all(before <= after for before, after in pairwise(zip(*columns, strict=True)))


def write_parquet(table: pa.Table) -> bytes:
    """Return a table as a Parquet file; the same rows make the same bytes."""
    import pyarrow.parquet as pq

    file, parquet = io.BytesIO(), cast("Any", pq)  # it has no types
    table = table.combine_chunks()
    with parquet.ParquetWriter(
        file, table.schema, compression="zstd", write_page_index=True
    ) as writer:
        for start, stop in _row_groups(table):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
    return file.getvalue()


def _row_groups(table: pa.Table) -> Iterator[tuple[int, int]]:
    """Return the start and end of each row group; they depend only on what the rows hold."""
    sums = [0, *itertools.accumulate(_row_sizes(table))]

    def fits(first: int, last: int) -> bool:
        size = sums[last + 1] - sums[first]
        return last - first < ROW_GROUP and size <= ROW_GROUP_BYTES

    if table.num_rows:
        for first, last in halves(0, table.num_rows - 1, fits):
            yield first, last + 1


def _row_sizes(table: pa.Table) -> list[int]:
    """Return the bytes of texts and lists in each row."""
    import numpy as np
    import pyarrow as pa

    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_list(column.type):
            unit = LIST_ITEM_BYTES if pa.types.is_list(column.type) else 1
            total += unit * np.concatenate([np.zeros(0, np.int64), *map(_lengths, column.chunks)])
    sizes_of_rows: list[int] = total.tolist()
    return sizes_of_rows


def _lengths(values: pa.Array) -> NDArray[np.int64]:
    """Return the bytes of each text, or the items of each list, of an array; 0 for a null."""
    import numpy as np

    offsets = values.buffers()[1] if len(values) else None
    if offsets is None:
        return np.zeros(len(values), np.int64)
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return np.diff(ends.astype(np.int64))


def read_parquet(name: str, body: bytes) -> pa.Table:
    """Read a file of a snapshot. Raises `SnapshotError` if its schema is not the declared one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not a Python file: Arrow's threads may outlive the interpreter, and then abort.
        table = pq.read_table(pa.BufferReader(body))  # type: ignore[no-untyped-call]
    except pa.ArrowException as error:
        raise SnapshotError(f"A file of {name} is not Parquet: {error}") from error
    if not has_declared_schema(name, table.schema):
        raise SnapshotError(f"A file of {name} has another schema than version {SCHEMA_VERSION}.")
    # Parquet adds metadata to the types of nested columns.
    columns = [
        column.cast(field.type) for column, field in zip(table.columns, schema(name), strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema(name))


def read_columns(body: bytes, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a file of a snapshot, which was verified."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(body), columns=list(columns))  # type: ignore[no-untyped-call]


def has_declared_schema(name: str, found: pa.Schema) -> bool:
    """Return whether a schema is the declared one, in the same version."""
    declared = schema(name)
    versions = {(one.metadata or {}).get(VERSION_KEY) for one in (found, declared)}
    return bool(found.equals(declared)) and len(versions) == 1


def describe_file(table: str, first: int, rows: int, body: bytes) -> File:
    """Return what the manifest says about a part's file of a table."""
    digest = hashlib.sha256(body).hexdigest()
    return File(path=part_path(table, first), rows=rows, bytes=len(body), sha256=digest)


# -- tallies --------------------------------------------------------------------------------------


def tally_part(tables: Mapping[Table, pa.Table]) -> Tally:
    """Count what is in a part."""
    tasks, annotations, results = (tables[name] for name in TABLES)
    names = ("from_name", "labels", "split", "was_cancelled")
    columns = [results[name].to_pylist() for name in names]
    labels = Counter(
        (control or "", label, split)
        for control, result_labels, split, was_cancelled in zip(*columns, strict=True)
        if result_labels and not was_cancelled
        for label in result_labels
    )
    agreements = [value for value in tasks["agreement"].to_pylist() if value is not None]
    times = [time for time in annotations["updated_at"].to_pylist() if time is not None]
    return Tally(
        tasks=tasks.num_rows,
        annotations=sum(tasks["annotations"].to_pylist()),
        skipped=sum(tasks["skipped"].to_pylist()),
        splits=dict(sorted(Counter(tasks["split"].to_pylist()).items())),
        labels=_nest(labels),
        agreement=sum(agreements),
        compared=len(agreements),
        labels_until=max(times).isoformat() if times else "",
    )


def add_tallies(tallies: Sequence[Tally]) -> Tally:
    """Return the tally of several parts together."""
    labels: Counter[tuple[str, str, str]] = Counter()
    splits: Counter[str] = Counter()
    for tally in tallies:
        splits.update(tally.splits)
        for control, by_label in tally.labels.items():
            for label, by_split in by_label.items():
                labels.update({(control, label, split): n for split, n in by_split.items()})
    return Tally(
        tasks=sum(tally.tasks for tally in tallies),
        annotations=sum(tally.annotations for tally in tallies),
        skipped=sum(tally.skipped for tally in tallies),
        splits=dict(sorted(splits.items())),
        labels=_nest(labels),
        agreement=sum(tally.agreement for tally in tallies),
        compared=sum(tally.compared for tally in tallies),
        labels_until=max((tally.labels_until for tally in tallies), default=""),
    )


def _nest(counts: Mapping[tuple[str, str, str], int]) -> dict[str, dict[str, dict[str, int]]]:
    """Return control → label → split → count, in the order of names and `SPLITS`."""
    nested: dict[str, dict[str, dict[str, int]]] = {}
    for control, label, split in sorted(counts, key=lambda key: (*key[:2], SPLITS.index(key[2]))):
        count = counts[control, label, split]
        nested.setdefault(control, {}).setdefault(label, {})[split] = count
    return nested


# -- checks ---------------------------------------------------------------------------------------


def failed_checks(ids: Range, tables: Mapping[Table, pa.Table], rule: SplitRule) -> dict[str, str]:
    """Check a part; return check → a sentence for each check that fails.

    The checks are ``no_orphans``, ``no_duplicates``, ``schema_as_declared`` and
    ``no_split_leak``. Parts have separate ranges of tasks, so every check holds across parts.
    """
    results = tables["results"]
    result_columns = [results[name].to_pylist() for name in ("annotation_id", "result_index")]
    keys = {
        "tasks": tables["tasks"]["task_id"].to_pylist(),
        "annotations": tables["annotations"]["annotation_id"].to_pylist(),
        "results": list(zip(*result_columns, strict=True)),
    }
    failed, splits = {}, _splits(tables["tasks"], rule)
    for name, table in tables.items():
        if not has_declared_schema(name, table.schema):
            failed["schema_as_declared"] = (
                f"{name} does not have the schema of version {SCHEMA_VERSION}."
            )
        if twice := [key for key, count in Counter(keys[name]).items() if count > 1]:
            failed["no_duplicates"] = f"{name} has {twice[0]} twice."
        if item := _item_in_wrong_split(table, splits):
            failed["no_split_leak"] = f"{item} is in another split in {name} than it belongs to."
    misplaced = [task_id for task_id in keys["tasks"] if not ids.first <= task_id <= ids.last]
    misplaced += set(tables["annotations"]["task_id"].to_pylist()) - set(keys["tasks"])
    if misplaced:
        failed["no_orphans"] = f"Task {misplaced[0]} is in a part that it does not belong to."
    if lost := {annotation_id for annotation_id, _ in keys["results"]} - set(keys["annotations"]):
        failed["no_orphans"] = f"Annotation {min(lost)} is missing, but it has results."
    return failed


def _splits(tasks: pa.Table, rule: SplitRule) -> dict[int, str]:
    """Return task id → the split that the task belongs to."""
    columns = ["task_id", "object_uri", "object_row", *(["data"] if rule.needs_data else [])]
    return {
        task["task_id"]: rule.split(task, json.loads(task.get("data", "null")))
        for task in tasks.select(columns).to_pylist()
    }


def _item_in_wrong_split(table: pa.Table, splits: Mapping[int, str]) -> str:
    columns = [table[name].to_pylist() for name in ("object_uri", "task_id", "split")]
    for uri, task_id, split in set(zip(*columns, strict=True)):
        if split != splits.get(task_id, split):  # the check no_orphans reports one without a task
            return uri or f"task {task_id}"
    return ""
