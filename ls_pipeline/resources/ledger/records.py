"""What the ledger remembers, as values. Times are in seconds since 1970; 0 means never."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.settings.model import Connection


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row of an object, and the task that it became; ``task_id`` is 0 before the import."""

    key: str
    row: int
    version: str
    digest: str
    task_id: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An object that can't become a task, or one ``row`` of it.

    ``reading`` is how the object was read (`SourceParams.reading`): read in another way, it may
    become a task.
    """

    key: str
    row: int | None
    version: str
    reason: str
    reading: str


@dataclass
class LedgerUpdate:
    """What the ledger records at once: what became of some objects and their rows."""

    loaded: list[TaskRow] = field(default_factory=list)
    """Rows that have a task."""
    quarantined: list[Quarantined] = field(default_factory=list)
    finished: list[KnownObject] = field(default_factory=list)
    """Objects that are done in this version."""
    forgotten: list[str] = field(default_factory=list)
    """Keys that are gone from the bucket and left no tasks."""
    dropped: list[TaskRow] = field(default_factory=list)
    """Rows whose tasks are deleted."""


@dataclass(frozen=True, slots=True)
class PendingImport:
    """An import that began: its rows may have become tasks with ids above ``above``.

    With ``rechecks``, tasks were missing that many times; they are looked for again at
    ``recheck_at``.
    """

    id: int
    project_id: int
    above: int
    rows: tuple[TaskRow, ...]
    began_at: float
    rechecks: int = 0
    recheck_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Exported:
    """What was last written to the target for a task."""

    task_id: int
    updated_at: str
    digest: str
    uri: str
    annotations: int


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """How far snapshots have followed the exports.

    ``changes`` counts the exports that changed the target. The last snapshot was made at count
    ``snapshot_changes``, at the time ``snapshot_at``, in ``snapshot_uri``.
    """

    changes: int
    snapshot_changes: int
    snapshot_at: float
    snapshot_uri: str


WORKS = ("tasks", "completions", "training_data")
"""What runs work on, each with its own health."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the last runs of some work ended."""

    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    failure: str = ""
    passed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Revision:
    """One stored state of a connection's settings."""

    number: int
    connection: Connection
    saved_at: float
    saved_by: str
