"""Completions as three tables with one fixed schema, and back.

The columns never depend on the labels, because readers of several files with inferred schemas lose
labels. Typed columns hold what kinds of results share; JSON columns hold everything, verbatim. The
forms of results are those of Label Studio 1.23 (https://labelstud.io/guide/task_format).
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, get_args

from ls_pipeline.domain.snapshot.agreement import find_disagreements, mean_agreement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.snapshot.splits import SplitRule

Row = dict[str, Any]
"""Column → value."""

SCHEMA_VERSION = "1"
"""Increases if a column is added; no column is ever removed or changes its type."""

VERSION_KEY = b"ls_pipeline.schema_version"
"""The metadata key of the version, in every schema and file."""

Table = Literal["tasks", "annotations", "results"]
TABLES: tuple[Table, ...] = get_args(Table)

LINEAGE: dict[str, tuple[str, str]] = {
    "task_id": ("int64 not null", "Label Studio's id of the task"),
    "object_uri": (
        "string",
        "URI of the object that the task was loaded from; null: created in Label Studio",
    ),
    "object_version": (
        "string",
        "the object's version when the task was loaded: ETag or generation",
    ),
    "object_row": (
        "int64",
        "the row's number in the object; a row keeps it in all versions",
    ),
    "split": (
        "string not null",
        "train, validation or test; the same for all tasks of a group, or else of an object",
    ),
}
ANNOTATOR: dict[str, tuple[str, str]] = {
    "annotation_id": ("int64 not null", "Label Studio's id of the annotation"),
    "completed_by": ("int64", "Label Studio's id of the annotator"),
    "was_cancelled": ("bool not null", "whether the annotator skipped the task"),
    "ground_truth": ("bool not null", "whether the annotation is marked as ground truth"),
    "lead_time": ("double", "seconds that the annotator took"),
}
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "tasks": {
        **LINEAGE,
        "data": ("string not null", "JSON: the task's data, verbatim"),
        "meta": ("string not null", "JSON: the task's meta, verbatim"),
        "predictions": ("string not null", "JSON: its predictions, verbatim"),
        "fields": ("string not null", "JSON: its other fields, verbatim"),
        "created_at": ("timestamp", "when the task was created, UTC"),
        "annotations": ("int64 not null", "number of annotations, without skipped ones"),
        "skipped": ("int64 not null", "number of annotators who skipped the task"),
        "agreement": (
            "double",
            "agreement of its annotators, 0 to 1; null: fewer than two annotators",
        ),
        "digest": ("string not null", "hash of its completion; equal hashes mean equal content"),
    },
    "annotations": {
        **LINEAGE,
        **ANNOTATOR,
        "created_at": ("timestamp", "when the annotation was created, UTC"),
        "updated_at": ("timestamp", "when it was last changed, UTC"),
        "results": ("int64 not null", "number of its results"),
        "result": ("string not null", "JSON: all its results, verbatim"),
        "fields": ("string not null", "JSON: its other fields, verbatim"),
    },
    "results": {
        **LINEAGE,
        **ANNOTATOR,
        "result_index": ("int64 not null", "position among the annotation's results, from 0"),
        "result_id": ("string", "the region's id; results about one region share it"),
        "parent_id": ("string", "id of the enclosing region"),
        "type": ("string", "type of control: choices, rectanglelabels, …"),
        "from_name": ("string", "the control's name in the label config"),
        "to_name": ("string", "the labeled object's name in the label config"),
        "item_index": ("int64", "index of the image or page, from 0"),
        "origin": ("string", "who made the result: manual, prediction, or prediction-changed"),
        "score": ("double", "score of an accepted prediction, 0 to 1"),
        "labels": (
            "list<string>",
            "labels, choices, or the selected side; levels of a taxonomy are joined by ' / '",
        ),
        "text": ("list<string>", "typed text, or the text of a span"),
        "number": ("double", "a rating or number"),
        "x": ("double", "left edge, or center of an ellipse or point, in % of the image's width"),
        "y": ("double", "top edge, or center of an ellipse or point, in % of the image's height"),
        "width": ("double", "in % of the image's width"),
        "height": ("double", "in % of the image's height"),
        "rotation": ("double", "degrees, clockwise, around the top left corner"),
        "radius_x": ("double", "of an ellipse, in % of the image's width"),
        "radius_y": ("double", "of an ellipse, in % of the image's height"),
        "points": (
            "list<list<double>>",
            "points of a polygon or path, each x and y in % of width and height",
        ),
        "start": ("double", "start of a span: seconds, characters, or the unit of the time series"),
        "end": ("double", "end of a span, in the same unit; exclusive for characters"),
        "start_offset": ("int64", "characters from the start of its first paragraph or element"),
        "end_offset": ("int64", "characters from the start of its last paragraph or element"),
        "original_width": ("int64", "width of the image in pixels"),
        "original_height": ("int64", "height of the image in pixels"),
        "image_rotation": ("double", "degrees that the image was rotated by"),
        "from_id": ("string", "id of the region that a relation starts at"),
        "to_id": ("string", "id of the region that a relation ends at"),
        "direction": ("string", "direction of a relation: left, right or bi"),
        "disagreed_by": (
            "list<int64>",
            "ids of the task's other annotators who have no similar result; null: there are none",
        ),
        "value": ("string", "JSON: the result's value, verbatim"),
    },
}
"""Table → column → (type, what it holds)."""


def schema(table: str) -> pa.Schema:
    """Return the declared schema of a table, with its version as metadata."""
    import pyarrow as pa

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
    for name, (declared, _) in COLUMNS[table].items():
        plain = declared.removesuffix(" not null")
        fields.append(pa.field(name, types[plain], nullable=plain == declared))
    return pa.schema(fields, metadata={VERSION_KEY: SCHEMA_VERSION.encode()})


def table_rows(completions: Iterable[Completion], rule: SplitRule) -> dict[str, list[Row]]:
    """Return the rows of each table, ordered by task, annotation and result."""
    tables: dict[str, list[Row]] = {table: [] for table in TABLES}
    for completion in sorted(completions, key=attrgetter("task_id")):
        _add_rows(tables, completion, rule)
    return tables


def _add_rows(tables: dict[str, list[Row]], completion: Completion, rule: SplitRule) -> None:
    origin = completion.origin
    lineage: Row = {
        "task_id": completion.task_id,
        "object_uri": origin and origin.uri,
        "object_version": origin and origin.version,
        "object_row": None if origin is None else origin.row,
    }
    lineage["split"] = rule.split(lineage, completion.document["data"])
    annotations = [_Annotation(document) for document in completion.annotations]
    finished = [one for one in annotations if not one.columns["was_cancelled"]]
    disagreements = find_disagreements([annotation.results for annotation in finished])
    if len(finished) > 1:
        _add_disagreements(finished, disagreements)
    document = dict(completion.document)
    document.pop("updated_at", None)  # it may change without any other field
    tables["tasks"].append(
        {
            **lineage,
            "data": as_json(document.pop("data")),
            "meta": as_json(document.pop("meta", None)),
            "predictions": as_json(document.pop("predictions", [])),
            "fields": as_json({key: document[key] for key in document if key != "annotations"}),
            "created_at": _time(document.get("created_at")),
            "annotations": len(finished),
            "skipped": len(annotations) - len(finished),
            "agreement": mean_agreement(disagreements),
            "digest": completion.digest,
        }
    )
    for annotation in annotations:
        own = {**lineage, **annotation.columns}
        tables["annotations"].append({**own, **annotation.other_columns})
        tables["results"] += [{**own, **result} for result in annotation.results]


class _Annotation:
    """The columns of one annotation and the rows of its results."""

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
        self.other_columns = {
            "created_at": _time(document.get("created_at")),
            "updated_at": _time(document.get("updated_at")),
            "results": len(items),
            "result": as_json(result),
            "fields": as_json({key: document[key] for key in document if key != "result"}),
        }
        self.results = [result_row(index, item) for index, item in enumerate(items)]


def _add_disagreements(
    finished: Sequence[_Annotation], disagreements: Sequence[Sequence[Sequence[int]]]
) -> None:
    annotators = [annotation.columns["completed_by"] for annotation in finished]
    for annotation, by_result in zip(finished, disagreements, strict=True):
        for row, others in zip(annotation.results, by_result, strict=True):
            row["disagreed_by"] = sorted({annotators[index] for index in others} - {None})


_TEXTS = ("type", "from_name", "to_name", "origin", "from_id", "to_id", "direction")
_NUMBERS = ("x", "y", "width", "height", "rotation")
"""Columns of the same name as a result's field, or as a field of its value."""


def result_row(index: int, result: Any) -> Row:
    """Return a result's own columns. A field of unknown form is null, and kept in ``value``."""
    item = result if isinstance(result, dict) else {}
    value = item.get("value")
    inner = value if isinstance(value, dict) else {}
    kind = _text(item.get("type"))
    offsets = inner.get("globalOffsets")
    span = offsets if isinstance(offsets, dict) else inner
    return {
        "result_index": index,
        **{name: _text(item.get(name)) for name in _TEXTS},
        **{name: _number(inner.get(name)) for name in _NUMBERS},
        "result_id": _text(item.get("id")),
        "parent_id": _text(item.get("parentID")),
        "item_index": _integer(item.get("item_index", inner.get("item_index"))),
        "score": _number(item.get("score")),
        "labels": _labels(kind, item, inner),
        "text": _texts(inner.get("text")),
        "number": _number(inner.get("rating", inner.get("number"))),
        "radius_x": _number(inner.get("radiusX")),
        "radius_y": _number(inner.get("radiusY")),
        "points": _points(inner.get("points", inner.get("vertices"))),
        "start": _number(span.get("start")),
        "end": _number(span.get("end")),
        "start_offset": _integer(inner.get("startOffset")),
        "end_offset": _integer(inner.get("endOffset")),
        "original_width": _integer(item.get("original_width")),
        "original_height": _integer(item.get("original_height")),
        "image_rotation": _number(item.get("image_rotation")),
        "disagreed_by": None,
        "value": None if "value" not in item else as_json(value),
    }


def build_document(task: Row, annotations: Iterable[Row]) -> dict[str, Any]:
    """Return a task in Label Studio's export form, from the rows of both tables.

    It equals the completion's document, without the task's ``updated_at``.
    """
    return {
        **json.loads(task["fields"]),
        "id": task["task_id"],
        "data": json.loads(task["data"]),
        "meta": json.loads(task["meta"]),
        "predictions": json.loads(task["predictions"]),
        "annotations": [
            {
                **json.loads(row["fields"]),
                "id": row["annotation_id"],
                "result": json.loads(row["result"]),
            }
            for row in annotations
        ],
    }


_PLAIN, _ESCAPED = (
    json.JSONEncoder(ensure_ascii=is_escaped, separators=(",", ":")) for is_escaped in (False, True)
)
"""Made once: ``json.dumps`` makes an encoder each time, which takes as long as a short value."""


def as_json(value: object) -> str:
    """Return JSON that UTF-8 can encode and that parses to an equal value.

    If a string has half of a surrogate pair, which JSON allows, the text is escaped.
    """
    text = _PLAIN.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ESCAPED.encode(value)
    return text


# -- from JSON to typed columns -----------------------------------------------------------------


def _text(value: object) -> str | None:
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _texts(value: object) -> list[str] | None:
    values = value if isinstance(value, list) else [value]
    texts = [item for item in map(_text, values) if item is not None]
    return texts if texts and len(texts) == len(values) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -(2**63) <= value < 2**63 else None


def _annotator(value: object) -> int | None:
    return _integer(value["id"] if isinstance(value, dict) and "id" in value else value)


def _points(value: object) -> list[list[float]] | None:
    if not isinstance(value, list):
        return None
    points = []
    for point in value:
        pair = (point.get("x"), point.get("y")) if isinstance(point, dict) else point
        if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004
            return None
        numbers = [number for number in map(_number, pair) if number is not None]
        if len(numbers) < len(pair):
            return None
        points.append(numbers)
    return points or None


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


def _time(text: object) -> datetime | None:
    """Parse a Label Studio time; Python 3.10 parses no trailing Z."""
    try:
        time = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        return time.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # of the year 0, in UTC
        return None
