"""Completions as three tables with one fixed schema, and back.

The columns never depend on the labels: an inferred schema loses labels when files of different
label types are read together. What all kinds of results share has typed columns; everything is
there verbatim, as JSON, too. The forms of results are those of Label Studio 1.23
(https://labelstud.io/guide/task_format).
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.snapshot.agreement import agreement, find_disagreements
from ls_pipeline.domain.snapshot.splits import assign_split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.snapshot.splits import Shares

SCHEMA_VERSION = "1"
"""Moves when a column is added; none ever goes, or changes its type."""

VERSION_KEY = b"ls_pipeline.schema_version"
"""Of the metadata of every schema and file."""

TABLES = ("tasks", "annotations", "results")

LINEAGE: dict[str, tuple[str, str]] = {
    "task_id": ("int64 not null", "Label Studio's id of the task"),
    "object_uri": ("string", "the object that the task was loaded from; null: made by hand"),
    "object_version": ("string", "its version when the task was loaded: ETag, or generation"),
    "object_row": ("int64", "the row of it that is the task, from 0"),
    "split": ("string not null", "train, validation or test; the same for all of an object"),
}
ANNOTATOR: dict[str, tuple[str, str]] = {
    "annotation_id": ("int64 not null", "Label Studio's id of the annotation"),
    "completed_by": ("int64", "Label Studio's id of the annotator"),
    "was_cancelled": ("bool not null", "whether the annotator skipped the task"),
    "ground_truth": ("bool not null", "whether it is marked as ground truth"),
    "lead_time": ("double", "seconds that the annotator took"),
}
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "tasks": {
        **LINEAGE,
        "data": ("string not null", "JSON: the task's data, verbatim"),
        "meta": ("string not null", "JSON: the task's meta, verbatim"),
        "predictions": ("string not null", "JSON: its predictions, verbatim"),
        "fields": ("string not null", "JSON: its other fields, verbatim"),
        "created_at": ("timestamp", "when the task was loaded, UTC"),
        "annotations": ("int64 not null", "how many annotations it has, skipped ones left out"),
        "skipped": ("int64 not null", "how many annotators skipped it"),
        "agreement": ("double", "of its annotators, 0 to 1; null where fewer than two"),
        "digest": ("string not null", "of its completion: equal ones are the same content"),
    },
    "annotations": {
        **LINEAGE,
        **ANNOTATOR,
        "created_at": ("timestamp", "UTC"),
        "updated_at": ("timestamp", "UTC"),
        "results": ("int64 not null", "how many results it has"),
        "result": ("string not null", "JSON: all its results, verbatim"),
        "fields": ("string not null", "JSON: its other fields, verbatim"),
    },
    "results": {
        **LINEAGE,
        **ANNOTATOR,
        "result_index": ("int64 not null", "its place among the annotation's results, from 0"),
        "result_id": ("string", "the region's id; results about one region share it"),
        "parent_id": ("string", "the id of the region that this one lies in"),
        "type": ("string", "the kind of control: choices, rectanglelabels, …"),
        "from_name": ("string", "the control's name in the label config"),
        "to_name": ("string", "the name of what was labeled"),
        "item_index": ("int64", "which of several images or pages, from 0"),
        "origin": ("string", "manual, prediction, or prediction-changed"),
        "score": ("double", "of a prediction that was taken over, 0 to 1"),
        "labels": (
            "list<string>",
            "labels, choices, or the selected side; a taxonomy's levels are joined by ' / '",
        ),
        "text": ("list<string>", "what was typed, or the text that a span covers"),
        "number": ("double", "a rating or number"),
        "x": ("double", "left edge, or centre of an ellipse or point: % of the image's width"),
        "y": ("double", "top edge, or centre: % of its height"),
        "width": ("double", "% of the image's width"),
        "height": ("double", "% of its height"),
        "rotation": ("double", "degrees, clockwise, about the top left corner"),
        "radius_x": ("double", "% of the image's width"),
        "radius_y": ("double", "% of its height"),
        "points": ("list<list<double>>", "of a polygon or path: x and y in %"),
        "start": ("double", "of a span: seconds, or characters, or a time series' own unit"),
        "end": ("double", "likewise; of characters the one after the last"),
        "start_offset": ("int64", "characters into the paragraph or element where it starts"),
        "end_offset": ("int64", "characters into the one where it ends"),
        "original_width": ("int64", "pixels of the image"),
        "original_height": ("int64", "pixels of the image"),
        "image_rotation": ("double", "degrees by which the image was turned"),
        "from_id": ("string", "of a relation: the region that it leads from"),
        "to_id": ("string", "of a relation: the region that it leads to"),
        "direction": ("string", "of a relation: left, right or bi"),
        "disagreed_by": (
            "list<int64>",
            "annotators of the same task who have nothing like it; null: nobody else did it",
        ),
        "value": ("string", "JSON: the result's value, verbatim"),
    },
}
"""Table → column → (type, what it holds)."""


def schema(table: str) -> pa.Schema:
    """Give the declared schema of a table; its metadata says its version."""
    import pyarrow as pa  # half a second that most commands needn't pay

    types = {
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "list<string>": pa.list_(pa.string()),
        "list<int64>": pa.list_(pa.int64()),
        "list<list<double>>": pa.list_(pa.list_(pa.float64())),
    }
    fields = []
    for name, (kind, _) in COLUMNS[table].items():
        plain = kind.removesuffix(" not null")
        fields.append(pa.field(name, types[plain], nullable=plain == kind))
    return pa.schema(fields, metadata={VERSION_KEY: SCHEMA_VERSION.encode()})


def table_rows(
    completions: Iterable[Completion], shares: Shares
) -> dict[str, list[dict[str, Any]]]:
    """Give the rows of each table, in the order of task, annotation and result."""
    found: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    for completion in sorted(completions, key=lambda one: one.task_id):
        _add(found, completion, shares)
    return found


def _add(found: dict[str, list[dict[str, Any]]], completion: Completion, shares: Shares) -> None:
    origin = completion.origin
    lineage = {
        "task_id": completion.task_id,
        "object_uri": origin and _typed_text(origin.uri),
        "object_version": origin and origin.version,
        "object_row": None if origin is None else origin.row,
        "split": assign_split(origin.uri if origin else f"task {completion.task_id}", shares),
    }
    annotations = [_Annotation(one) for one in completion.annotations]
    finished = [one for one in annotations if not one.columns["was_cancelled"]]
    lacking = find_disagreements([one.results for one in finished])
    for one, missing in zip(finished, lacking, strict=True):
        one.compare(finished, missing)
    document = dict(completion.document)
    document.pop("updated_at", None)  # moves when nothing else does
    found["tasks"].append(
        {
            **lineage,
            "data": as_json(document.pop("data")),
            "meta": as_json(document.pop("meta", None)),
            "predictions": as_json(document.pop("predictions", [])),
            "fields": as_json({key: document[key] for key in document if key != "annotations"}),
            "created_at": _moment(document.get("created_at")),
            "annotations": len(finished),
            "skipped": len(annotations) - len(finished),
            "agreement": agreement(lacking),
            "digest": completion.digest,
        }
    )
    for one in annotations:
        found["annotations"].append({**lineage, **one.columns, **one.rest})
        found["results"] += [{**lineage, **one.columns, **row} for row in one.results]


class _Annotation:
    """One annotation's part of the tables."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        result = document.get("result")
        items = result if isinstance(result, list) else []
        self.columns = {
            "annotation_id": document["id"],
            "completed_by": _annotator(document.get("completed_by")),
            "was_cancelled": bool(document.get("was_cancelled")),
            "ground_truth": bool(document.get("ground_truth")),
            "lead_time": _number(document.get("lead_time")),
        }
        self.rest = {
            "created_at": _moment(document.get("created_at")),
            "updated_at": _moment(document.get("updated_at")),
            "results": len(items),
            "result": as_json(result),
            "fields": as_json({key: document[key] for key in document if key != "result"}),
        }
        self.results = [result_row(number, one) for number, one in enumerate(items)]

    def compare(self, finished: Sequence[_Annotation], missing: Sequence[Sequence[int]]) -> None:
        """Note who has nothing like each result."""
        if len(finished) == 1:
            return
        for row, others in zip(self.results, missing, strict=True):
            who = {finished[n].columns["completed_by"] for n in others}
            row["disagreed_by"] = sorted(one for one in who if one is not None)


def result_row(index: int, result: Any) -> dict[str, Any]:
    """Give a result's own columns. What has an unknown form is null, and in ``value``."""
    one = result if isinstance(result, dict) else {}
    value = one.get("value")
    inner = value if isinstance(value, dict) else {}
    kind = _typed_text(one.get("type"))
    place = inner.get("globalOffsets")
    place = place if isinstance(place, dict) else inner
    return {
        "result_index": index,
        "result_id": _typed_text(one.get("id")),
        "parent_id": _typed_text(one.get("parentID")),
        "type": kind,
        "from_name": _typed_text(one.get("from_name")),
        "to_name": _typed_text(one.get("to_name")),
        "item_index": _integer(one.get("item_index", inner.get("item_index"))),
        "origin": _typed_text(one.get("origin")),
        "score": _number(one.get("score")),
        "labels": _labels(kind, one, inner),
        "text": _texts(inner.get("text")),
        "number": _number(inner.get("rating", inner.get("number"))),
        "x": _number(inner.get("x")),
        "y": _number(inner.get("y")),
        "width": _number(inner.get("width")),
        "height": _number(inner.get("height")),
        "rotation": _number(inner.get("rotation")),
        "radius_x": _number(inner.get("radiusX")),
        "radius_y": _number(inner.get("radiusY")),
        "points": _points(inner.get("points", inner.get("vertices"))),
        "start": _number(place.get("start")),
        "end": _number(place.get("end")),
        "start_offset": _integer(inner.get("startOffset")),
        "end_offset": _integer(inner.get("endOffset")),
        "original_width": _integer(one.get("original_width")),
        "original_height": _integer(one.get("original_height")),
        "image_rotation": _number(one.get("image_rotation")),
        "from_id": _typed_text(one.get("from_id")),
        "to_id": _typed_text(one.get("to_id")),
        "direction": _typed_text(one.get("direction")),
        "disagreed_by": None,
        "value": None if "value" not in one else as_json(value),
    }


def build_document(
    task: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Give a task in Label Studio's export form, from its row and its annotations' rows.

    It is what the completion was, but for the task's ``updated_at``.
    """
    return {
        **json.loads(task["fields"]),
        "data": json.loads(task["data"]),
        "meta": json.loads(task["meta"]),
        "predictions": json.loads(task["predictions"]),
        "annotations": [
            {**json.loads(row["fields"]), "result": json.loads(row["result"])}
            for row in annotations
        ],
    }


# -- from JSON to typed columns -----------------------------------------------------------------


def as_json(value: object, indent: int | None = None) -> str:
    """Write JSON that reads back as the same, in text that UTF-8 can hold.

    Halves of characters, which JSON can hold and UTF-8 can't, stay escaped.
    """
    separators = (",", ": " if indent else ":")
    text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
    if _is_unicode(text):
        return text
    return json.dumps(value, ensure_ascii=True, separators=separators, indent=indent)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _typed_text(value: object) -> str | None:
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _texts(value: object) -> list[str] | None:
    many = value if isinstance(value, list) else [value]
    found = [_typed_text(one) for one in many]
    texts = [one for one in found if one is not None]
    return texts if texts and len(texts) == len(many) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and -(2**63) <= value < 2**63 else None  # type: ignore[operator,return-value]


def _annotator(value: object) -> int | None:
    return _integer(value["id"] if isinstance(value, dict) and "id" in value else value)


def _points(value: object) -> list[list[float]] | None:
    if not isinstance(value, list):
        return None
    found = []
    for point in value:
        pair = (point.get("x"), point.get("y")) if isinstance(point, dict) else point
        if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004
            return None
        numbers = [_number(one) for one in pair]
        if None in numbers:
            return None
        found.append(numbers)
    return found or None  # type: ignore[return-value]


def _labels(
    kind: str | None, result: Mapping[str, Any], value: Mapping[str, Any]
) -> list[str] | None:
    if kind == "relation":
        return _texts(result.get("labels") or None)
    if kind == "taxonomy":
        paths = value.get("taxonomy")
        levels = [_texts(path) for path in paths] if isinstance(paths, list) else [None]
        joined = [" / ".join(path) for path in levels if path]
        return joined if len(joined) == len(levels) else None
    if kind == "pairwise":
        return _texts(value.get("selected"))
    if kind and kind in value and kind not in ("rating", "number", "datetime"):
        return _texts(value[kind]) if value[kind] != [] else []
    return _texts(value.get("labels"))


def _moment(text: object) -> datetime | None:
    """Read a Label Studio time; Python 3.10 reads no trailing Z."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
