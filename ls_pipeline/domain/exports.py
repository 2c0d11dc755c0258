"""From completions to what a target holds: JSON documents, a Parquet table, and their names."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.objects import folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from ls_pipeline.domain.completions import Completion

SCHEMA_VERSION = "1"
"""Of the annotations table; it moves when a column is added, and none ever goes."""

_DOCUMENT = re.compile(r"[0-9]+\.json")


def completion_key(prefix: str, task_id: int) -> str:
    """Name the object that holds a task's completion: ``<prefix>/<task id>.json``."""
    return f"{folder(prefix)}{task_id}.json"


def is_completion_key(prefix: str, key: str) -> bool:
    """Tell whether ``key`` is one that `completion_key` gives for ``prefix``."""
    root = folder(prefix)
    return key.startswith(root) and bool(_DOCUMENT.fullmatch(key[len(root) :]))


def is_written_key(prefix: str, key: str) -> bool:
    """Tell whether ``key`` is one under which something is written to a target."""
    return is_completion_key(prefix, key) or key == annotations_key(prefix)


def annotations_key(prefix: str) -> str:
    """Name the object that holds the Parquet table of all annotations."""
    return f"{folder(prefix)}training_data/annotations.parquet"


def json_document(completion: Completion) -> bytes:
    """Write a completion as one JSON document, UTF-8, same input same bytes."""
    return (json.dumps(completion.document, ensure_ascii=False, indent=1) + "\n").encode()


TOMBSTONE = "deleted"
"""What stands for the digest of a task that was deleted in Label Studio."""


def tombstone(task_id: int) -> bytes:
    """Write what is left of a completion when its task was deleted in Label Studio."""
    return (
        json.dumps({"id": task_id, "deleted": True, "annotations": []}, indent=1) + "\n"
    ).encode()


def annotations_schema() -> pa.Schema:
    """Give the columns of the annotations table; they never depend on the labels.

    One row an annotation. ``data`` and ``result`` are JSON, verbatim; ``lead_time`` is in
    seconds; ``object_uri``, ``object_version`` and ``object_row`` say where the task came
    from, and are null for a task that the pipeline did not load.
    """
    import pyarrow as pa  # noqa: PLC0415 - half a second that most commands needn't pay

    text, number, flag = pa.string(), pa.int64(), pa.bool_()
    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("task_id", number, nullable=False),
            pa.field("annotation_id", number, nullable=False),
            pa.field("object_uri", text),
            pa.field("object_version", text),
            pa.field("object_row", number),
            pa.field("data", text, nullable=False),
            pa.field("result", text, nullable=False),
            pa.field("was_cancelled", flag, nullable=False),
            pa.field("ground_truth", flag, nullable=False),
            pa.field("completed_by", number),
            pa.field("lead_time", pa.float64()),
            pa.field("created_at", moment),
            pa.field("updated_at", moment),
        ],
        metadata={"ls_pipeline.schema_version": SCHEMA_VERSION},
    )


def annotations_parquet(completions: Iterable[Completion]) -> bytes:
    """Write the annotations table as a Parquet file, ordered by task and annotation.

    The schema is the same for 0 rows as for any labels: an inferred one loses labels when
    files of different label types are read together.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = [row for completion in completions for row in _rows(completion)]
    rows.sort(key=lambda row: (row["task_id"], row["annotation_id"]))
    table = pa.Table.from_pylist(rows, schema=annotations_schema())
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")  # type: ignore[no-untyped-call]
    return file.getvalue()


def _rows(completion: Completion) -> Iterable[dict[str, Any]]:
    origin = completion.origin
    data = _json(completion.document["data"])
    for one in completion.annotations:
        yield {
            "task_id": completion.task_id,
            "annotation_id": one["id"],
            "object_uri": origin and origin.uri,
            "object_version": origin and origin.version,
            "object_row": None if origin is None else origin.row,
            "data": data,
            "result": _json(one["result"]),
            "was_cancelled": bool(one.get("was_cancelled")),
            "ground_truth": bool(one.get("ground_truth")),
            "completed_by": one.get("completed_by"),
            "lead_time": one.get("lead_time"),
            "created_at": _moment(one.get("created_at")),
            "updated_at": _moment(one.get("updated_at")),
        }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _moment(text: str | None) -> datetime | None:
    # Python 3.10 reads no trailing Z.
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
