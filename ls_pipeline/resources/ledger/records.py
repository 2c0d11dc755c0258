"""What the ledger remembers, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ls_pipeline.settings.model import Connection


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """One (object, row) and the task that it became."""

    key: str
    row: int
    version: str
    digest: str
    task_id: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object, or with ``row`` one row of it, that can't become a task.

    ``reading`` is how it was read, `SourceParams.reading`: read otherwise, it may become one.
    """

    key: str
    row: int | None
    version: str
    reason: str
    reading: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An import that was begun: these rows may have become tasks with ids over ``above``.

    With ``looks`` it is in doubt: that often somebody looked for tasks that were missing, and
    will again at ``look_at``. Times are in seconds since 1970.
    """

    id: int
    project_id: int
    above: int
    rows: tuple[LoadedRow, ...]
    opened_at: float
    looks: int = 0
    look_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Exported:
    """What was last written to the target for a task."""

    task_id: int
    updated_at: str
    digest: str
    uri: str
    annotations: int


@dataclass(frozen=True, slots=True)
class Training:
    """How training data stands.

    ``moved`` counts the changes of completions; the last snapshot was made at count
    ``snapshot_of``, at ``snapshot_at`` (seconds since 1970), and is ``snapshot_uri``.
    """

    moved: int
    snapshot_of: int
    snapshot_at: float
    snapshot_uri: str


WORKS = ("tasks", "completions", "training_data")
"""What passes do, each with a health of its own."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the last passes of some work went; times are in seconds since 1970, 0: never."""

    failures: int = 0
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
