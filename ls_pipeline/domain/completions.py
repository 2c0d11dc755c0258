"""Completions: tasks with their finished annotations, as Label Studio lists them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.tasks import Origin, parse_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    {*_TASK_FIELDS, "annotations", "predictions", "draft_exists"}
    | {*_ANNOTATION_FIELDS}
    | {*_PREDICTION_FIELDS}
)
"""The fields of a task, and of what it contains, that `parse_completion` reads."""


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


@dataclass(frozen=True, slots=True)
class Completion:
    """A task with its finished annotations, in Label Studio's own export form."""

    task_id: int
    updated_at: str
    origin: Origin | None
    document: Mapping[str, Any]
    drafts: int = 0
    """Not 0 if anyone has an unfinished annotation of the task; the document contains none."""

    @property
    def has_human_work(self) -> bool:
        """Whether an annotator worked on the task, finished or not."""
        return bool(self.annotations or self.drafts)

    @property
    def annotations(self) -> list[dict[str, Any]]:
        annotations: list[dict[str, Any]] = self.document["annotations"]
        return annotations

    @property
    def digest(self) -> str:
        """A hash of everything but the task's own time of change."""
        content = {key: value for key, value in self.document.items() if key != "updated_at"}
        return sha256_hex(canonical_json(content))


def parse_completion(task: Mapping[str, Any]) -> Completion:
    """Parse one task of Label Studio's task list (``fields=all``).

    Keeps the fields of Label Studio's export. Omits drafts, and texts relative to now
    (``created_ago``).
    """
    document = {name: task.get(name) for name in _TASK_FIELDS}
    annotations = _select(task.get("annotations"), _ANNOTATION_FIELDS)
    document["annotations"] = sorted(annotations, key=itemgetter("id"))
    document["predictions"] = _select(task.get("predictions"), _PREDICTION_FIELDS)
    skipped = sum(bool(annotation["was_cancelled"]) for annotation in annotations)
    document["total_annotations"] = len(annotations) - skipped
    document["cancelled_annotations"] = skipped
    # Not `drafts`: Label Studio lists only those of the API key's own user.
    origin, drafts = parse_origin(task.get("meta")), int(bool(task.get("draft_exists")))
    return Completion(task["id"], task["updated_at"], origin, document, drafts)


def _select(
    items: Iterable[Mapping[str, Any]] | None, fields: Sequence[str]
) -> list[dict[str, Any]]:
    return [{name: item[name] for name in fields if name in item} for item in items or ()]


def belongs_to(connection: str, origin: Origin | None) -> bool:
    """Return whether a connection exports a task: any of its projects' but other connections'."""
    return origin is None or origin.connection == connection


def canonical_json(value: object) -> bytes:
    """Return a value as JSON that does not depend on the order of keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 hash in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
