"""What a task may be, and where it came from; or the precise reason why a row can't be one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.label_config import kind_of
from ls_pipeline.domain.predictions import PredictionRecord, parse_record
from ls_pipeline.domain.text import is_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeGuard

    from ls_pipeline.domain.label_config import DataKey, LabelConfig

META_KEY = "ls_pipeline"
"""The key of a task's ``meta`` that holds its `Origin`."""

LONGEST_TEXT = 4096
"""Characters of a field of an `Origin`: more than a bucket's name and a key have."""

LAST_ROW = 2**31 - 1
"""The greatest ``row`` of an `Origin`; an object has fewer."""

NO_POSITION = -1
"""The position of a row that its object no longer has."""

LARGEST_ROW = 8 * 2**20
"""Bytes; a larger row is rejected before it is built."""

MOST_PARTS = 250_000
"""Lists, objects and strings of a row, keys included: built, each takes up to 200 bytes."""

MOST_RESULTS = 10_000
"""Results in a prediction. Label Studio compares each with all others; 80,000 take minutes."""

DEEPEST = 100
"""Levels of nesting; Label Studio recurses over them, and no label config needs more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task came from; ``(uri, row)`` is its identity.

    An object's rows are numbered from 0 when it is loaded first. A row keeps its number wherever
    it moves in later versions, and no other row gets it.
    """

    connection: str
    uri: str
    version: str
    """Empty while a run replaces the task's predictions."""
    row: int
    token: str = ""
    """Of the import that made the task. A copy that a person makes of the task has it, too."""
    content: str = ""
    """Digest of the data that the row had in this version; see `Identity`."""
    row_key: str = ""
    """Digest of its ``row_key``, if the source has one."""
    predictions: PredictionRecord = field(default_factory=PredictionRecord)
    """Those that the row had in this version."""

    def as_meta(self) -> dict[str, Any]:
        """Return the origin as a task's ``meta`` stores it."""
        meta = {
            "connection": self.connection,
            "uri": self.uri,
            "version": self.version,
            "row": self.row,
        }
        more: dict[str, Any] = {"import": self.token, "content": self.content}
        more |= {"row_key": self.row_key, "predictions": self.predictions.as_meta()}
        return {**meta, **{name: value for name, value in more.items() if value}}


def parse_origin(meta: object) -> Origin | None:
    """Return the origin that `Origin.as_meta` wrote; None if ls_pipeline did not make the task.

    A person may have written it: what no origin of ours can hold makes it no origin.
    """
    origin = meta.get(META_KEY) if isinstance(meta, dict) else None
    if not isinstance(origin, dict):
        return None
    connection, uri = origin.get("connection"), origin.get("uri")
    version, row, token = origin.get("version", ""), origin.get("row"), origin.get("import", "")
    content, row_key = origin.get("content", ""), origin.get("row_key", "")
    if not (_is_short(connection) and _is_short(version) and _is_short(token)):
        return None
    predictions = parse_record(origin.get("predictions"))
    if predictions is None or not (_is_digest(content) and _is_digest(row_key)):
        return None
    if not (isinstance(uri, str) and _is_short(uri.replace("\0", " "))):  # a key may have it
        return None
    if type(row) is not int or not 0 <= row <= LAST_ROW or not connection or not uri:
        return None
    return Origin(connection, uri, version, row, token, content, row_key, predictions)


def _is_short(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and is_text(value)


def _is_digest(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and (not value or bool(re.fullmatch("[0-9a-f]{32}", value)))


@dataclass(frozen=True, slots=True)
class Task:
    """What Label Studio shows an annotator: one checked row of an object.

    ``position`` counts the rows of this version of the object from 0: the elements of a JSON list,
    the lines of a JSONL file, the rows below a table's header, 0 for a single task.
    """

    position: int
    data: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    annotations: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()
    prediction_ids: int = 0
    """Predictions that the object has only as ids, as an export does; they are left out."""

    def as_import(self, origin: Origin) -> dict[str, Any]:
        """Return the body of Label Studio's import call, with the origin in ``meta``."""
        body: dict[str, Any] = {
            "data": self.data,
            "meta": {**self.meta, META_KEY: origin.as_meta()},
        }
        if self.annotations:
            body["annotations"] = list(self.annotations)
        if self.predictions:
            body["predictions"] = list(self.predictions)
        return body


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row can't become a task; ``position`` is None for the whole object."""

    position: int | None
    reason: str
    data: Mapping[str, Any] | None = None
    """The row's data, if it has any: the row may be known by it."""
    is_unknown_form: bool = False
    """Whether the object has no form that is read: it may be a picture, or need a param."""


def blob_task(uri: str, data_key: DataKey) -> Task:
    """Return the task that shows a blob, ``{data_key: uri}``, without reading the object."""
    return Task(position=0, data=data_key.data_with(uri))


@dataclass(frozen=True, slots=True)
class Refused:
    """What Python's parser accepts, and a task must not contain."""

    reason: str


def check_values(value: object, levels: int = DEEPEST) -> None:
    """Refuse values that Label Studio would not return unchanged."""
    if levels == 0:
        raise NotATaskError(f"The JSON is nested deeper than {DEEPEST} levels.")
    if isinstance(value, dict):
        for name, member in value.items():
            check_values(name, levels)
            check_values(member, levels - 1)
    elif isinstance(value, list):
        for member in value:
            check_values(member, levels - 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NotATaskError("A whole number has more than 64 bits; write it as a string.")
    elif isinstance(value, Refused):
        raise NotATaskError(value.reason)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise NotATaskError("A number is too large for a double.")


def _check_text(value: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NotATaskError("A string holds half of a surrogate pair.") from None


def task_of(position: int, value: object, label_config: LabelConfig) -> Task | Rejection:
    """Return the task of a row, which is plain data or in Label Studio's form with ``data``."""
    if not isinstance(value, dict):
        return Rejection(position, f"A task is a JSON object, not {kind_of(type(value))}.")
    has_data = isinstance(value.get("data"), dict)
    data = value["data"] if has_data else value
    if error := label_config.data_error(data):
        return Rejection(position, error, data)
    try:
        if not has_data:
            _check_bare(data, label_config.keys)
            return Task(position, data)
        predictions = _predictions(value)
        left_out = len(value.get("predictions") or ()) - len(predictions)
        return Task(position, data, _meta(value), _annotations(value), predictions, left_out)
    except NotATaskError as error:
        return Rejection(position, str(error), data)


def _check_bare(data: Mapping[str, Any], shown: Sequence[str]) -> None:
    """Refuse what Label Studio would store as data, although it is predictions or annotations."""
    for name in ("predictions", "annotations"):
        items = data.get(name) if name not in shown else None
        if isinstance(items, list) and any(isinstance(i, dict) and "result" in i for i in items):
            raise NotATaskError(f"`{name}` needs the task's data beside it, in `data`.")


def _meta(task: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = task.get("meta")
    if meta is None:
        return {}
    if not isinstance(meta, (dict, list)):
        raise NotATaskError(f"`meta` is a JSON object, not {kind_of(type(meta))}.")
    return meta if isinstance(meta, dict) else {"meta": meta}


_IMPORTED = ("result", "was_cancelled", "ground_truth", "lead_time", "completed_by")
"""The fields of an annotation that are imported."""


def _annotations(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return ``annotations``, or ``completions`` as old exports call them, to import.

    Label Studio sets ids and times itself. It would refuse the whole batch for a ``unique_id``
    that it already has.
    """
    name = "annotations" if task.get("annotations") is not None else "completions"
    annotations = []
    for item in _results(task, name):
        annotation = {key: item[key] for key in _IMPORTED if item.get(key) is not None}
        if item.get("skipped"):
            annotation["was_cancelled"] = True
        annotations.append(annotation)
    return annotations


def _predictions(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return ``predictions`` without ids: Label Studio exports ids in their place."""
    items = task.get("predictions")
    if isinstance(items, list):
        items = [item for item in items if type(item) is not int]
    predictions = _results({"predictions": items}, "predictions")
    most = max((len(prediction["result"]) for prediction in predictions), default=0)
    if most > MOST_RESULTS:
        raise NotATaskError(
            f"A prediction has {most:,} results; at most {MOST_RESULTS:,} are read."
        )
    return predictions


def _results(task: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = task.get(name)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotATaskError(f"`{name}` is a list of JSON objects, or absent.")
    if not all(isinstance(item.get("result"), list) for item in items):
        raise NotATaskError(f"Each of `{name}` has a `result`, which is a list.")
    return items
