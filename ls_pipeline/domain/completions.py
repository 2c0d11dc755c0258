"""Completions: tasks with their finished annotations, as Label Studio lists them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.predictions import TAG_FIELD, StoredPrediction, parse_predictions
from ls_pipeline.domain.tasks import Origin, parse_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeGuard

_TASK_FIELDS = ("id", "data", "meta", "created_at", "updated_at", "inner_id", "project")
_ANNOTATION_FIELDS = (
    "id",
    "completed_by",
    "result",
    "was_cancelled",
    "ground_truth",
    "created_at",
    "updated_at",
    "lead_time",
    "task",
    "project",
    "updated_by",
    "parent_prediction",
    "parent_annotation",
    "last_action",
)
_PREDICTION_FIELDS = ("id", "result", "score", "model_version", "created_at", "updated_at", "task")

WHOLE_FIELDS = sorted(
    {*_TASK_FIELDS, "annotations", "predictions", "draft_exists", TAG_FIELD}
    | {*_ANNOTATION_FIELDS}
    | {*_PREDICTION_FIELDS}
    | {f"annotations.{name}" for name in _ANNOTATION_FIELDS}
)
"""The fields of a task, and of what it contains, that `parse_completion` reads.

Those of annotations have two names: Label Studio takes the second for annotations that a request
expands, and the first for others.
"""

UNREADABLE = "unreadable_annotations"
"""The field of a document with what Label Studio listed as annotations, but can't be one."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task in a short listing: enough to decide whether to read the whole task.

    ``annotations`` counts finished ones, including skipped ones. ``updated_at`` is Label Studio's
    time, as it writes it.
    """

    id: int
    updated_at: str
    annotations: int
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """The number of tasks that changed at or after a Label Studio time, and the newest change."""

    since: str = ""
    count: int = 0
    newest: str = ""

    @classmethod
    def among(cls, states: Iterable[TaskState], since: str) -> RecentChanges:
        times = [state.updated_at for state in states if state.updated_at >= since]
        return cls(since, len(times), max(times, default=""))

    def __or__(self, other: RecentChanges) -> RecentChanges:
        """Return the changes of two projects, which share no task."""
        newest = max(self.newest, other.newest)
        return RecentChanges(self.since, self.count + other.count, newest)


@dataclass(frozen=True)
class Completion:
    """A task with its finished annotations, in Label Studio's own export form."""

    task_id: int
    updated_at: str
    origin: Origin | None
    document: Mapping[str, Any]
    drafts: int = 0
    """Not 0 if anyone has an unfinished annotation of the task; the document contains none."""
    predictions: Sequence[StoredPrediction] = ()
    """As Label Studio stores them; the document has what its export has of them."""

    @property
    def has_human_work(self) -> bool:
        """Whether an annotator worked on the task, finished or not."""
        return bool(self.annotations or self.drafts or UNREADABLE in self.document)

    @property
    def annotations(self) -> list[dict[str, Any]]:
        annotations: list[dict[str, Any]] = self.document["annotations"]
        return annotations

    @property
    def digest(self) -> str:
        """A hash of everything but the predictions and the task's own time of change."""
        return self._digest_and_size[0]

    @property
    def size(self) -> int:
        """Bytes of everything but the task's own time of change."""
        return self._digest_and_size[1]

    @cached_property
    def _digest_and_size(self) -> tuple[str, int]:
        content = {key: value for key, value in self.document.items() if key != "updated_at"}
        predictions = canonical_json(content.pop("predictions", []))
        body = canonical_json(content)
        return sha256_hex(body), len(body) + len(predictions)


def parse_completion(task: Mapping[str, Any]) -> Completion:
    """Parse one task of Label Studio's task list (``fields=all``); it has an id and a time.

    Keeps the fields of Label Studio's export. Omits drafts, and texts relative to now
    (``created_ago``). An annotation without an id of its own stays as it is, in the field
    `UNREADABLE` of the document.
    """
    document = {name: task.get(name) for name in _TASK_FIELDS}
    listed = _as_list(task.get("annotations"))
    items = [item for item in listed if isinstance(item, dict)]
    by_id = {item["id"]: item for item in items if fits_64_bits(item.get("id"))}
    annotations = [
        {"result": [], **_select(by_id[number], _ANNOTATION_FIELDS)} for number in sorted(by_id)
    ]
    predictions = [item for item in _as_list(task.get("predictions")) if isinstance(item, dict)]
    skipped = sum(bool(annotation.get("was_cancelled")) for annotation in annotations)
    document["annotations"] = annotations
    document["predictions"] = [_select(item, _PREDICTION_FIELDS) for item in predictions]
    document["total_annotations"] = len(annotations) - skipped
    document["cancelled_annotations"] = skipped
    if len(listed) > len(annotations):
        readable = set(map(id, by_id.values()))
        document[UNREADABLE] = [item for item in listed if id(item) not in readable]
    # Not `drafts`: Label Studio lists only those of the API key's own user.
    origin, drafts = parse_origin(task.get("meta")), int(bool(task.get("draft_exists")))
    stored = parse_predictions(predictions)
    return Completion(task["id"], task["updated_at"], origin, document, drafts, stored)


def fits_64_bits(value: object) -> TypeGuard[int]:
    """Return whether a value is a number that can be an id or a count in a database."""
    return type(value) is int and 0 <= value < 2**63


def _as_list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _select(item: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {name: item[name] for name in fields if name in item}


def belongs_to(connection: str, origin: Origin | None) -> bool:
    """Return whether a connection exports a task: any of its projects' but other connections'."""
    return origin is None or origin.connection == connection


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def canonical_json(value: object) -> bytes:
    """Return a value as JSON that does not depend on the order of keys."""
    return _CANONICAL.encode(value).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 hash in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
