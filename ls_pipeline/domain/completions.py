"""Label Studio's answer, as completions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.tasks import Origin, parse_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    {*_TASK_FIELDS, "annotations", "predictions", "drafts"}
    | {*_ANNOTATION_FIELDS}
    | {*_PREDICTION_FIELDS}
)
"""What `parse_completion` reads of a task, and of what is in it."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """What a light listing says of a task: enough to tell whether to look closer.

    ``annotations`` counts the finished ones, skipped ones included; ``updated_at`` is Label
    Studio's own time, as it writes it.
    """

    id: int
    updated_at: str
    annotations: int
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """How many tasks were touched at or after a Label Studio time, and when the last of them."""

    since: str = ""
    count: int = 0
    newest: str = ""

    @classmethod
    def among(cls, states: Iterable[TaskState], since: str) -> RecentChanges:
        touched = [one.updated_at for one in states if one.updated_at >= since]
        return cls(since, len(touched), max(touched, default=""))

    def __or__(self, other: RecentChanges) -> RecentChanges:
        """Give those of two projects, which share no task."""
        newest = max(self.newest, other.newest)
        return RecentChanges(self.since, self.count + other.count, newest)


@dataclass(frozen=True, slots=True)
class Completion:
    """A task with its finished annotations, in Label Studio's own export form."""

    task_id: int
    updated_at: str
    origin: Origin | None
    document: Mapping[str, Any]
    drafts: int = 0
    """What annotators have begun and not finished; no part of the document."""

    @property
    def has_human_work(self) -> bool:
        """Tell whether a human's work is in it, finished or not."""
        return bool(self.annotations or self.drafts)

    @property
    def annotations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document["annotations"]
        return found

    @property
    def digest(self) -> str:
        """Hash what a reader cares about: all but the task's own time of change."""
        content = {key: value for key, value in self.document.items() if key != "updated_at"}
        return sha256_hex(canonical_json(content))


def parse_completion(task: Mapping[str, Any]) -> Completion:
    """Read one task of Label Studio's task list (``fields=all``).

    Keeps the fields of Label Studio's export. Left out are texts relative to now
    (``created_ago``) and drafts, which nobody has finished.
    """
    document = {name: task.get(name) for name in _TASK_FIELDS}
    annotations = [_only(one, _ANNOTATION_FIELDS) for one in task.get("annotations") or ()]
    document["annotations"] = sorted(annotations, key=lambda one: one["id"])
    document["predictions"] = [
        _only(one, _PREDICTION_FIELDS) for one in task.get("predictions") or ()
    ]
    document["total_annotations"] = sum(not one["was_cancelled"] for one in annotations)
    document["cancelled_annotations"] = sum(bool(one["was_cancelled"]) for one in annotations)
    origin, drafts = parse_origin(task.get("meta")), len(task.get("drafts") or ())
    return Completion(task["id"], task["updated_at"], origin, document, drafts)


def belongs_to(connection: str, origin: Origin | None) -> bool:
    """Tell whether a task's completions are a connection's to export.

    All in its project are, but those that another connection loaded.
    """
    return origin is None or origin.connection == connection


def canonical_json(value: object) -> bytes:
    """Write a JSON value, the same however its keys are ordered."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def sha256_hex(written: bytes) -> str:
    """Hash what `canonical_json` has written."""
    return hashlib.sha256(written).hexdigest()


def _only(source: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: source[name] for name in fields if name in source}
