"""What the ledger remembers, as values. Times are in seconds since 1970; 0 means never."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import StoredSettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.settings.model import Connection


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row of an object, and the task that it became; ``task_id`` is 0 if it has none.

    ``row`` is its number, which it keeps in all versions of the object; ``position`` is where it
    is in this one, and `NO_POSITION` if it is gone. ``digest`` is that of the whole row, and
    ``content`` and ``row_key`` are what it is known by; see `Identity`.
    """

    key: str
    row: int
    version: str
    digest: str
    task_id: int = 0
    position: int = 0
    content: str = ""
    row_key: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An object that can't become a task, or the row at one position of it.

    ``reading`` is how the object was read (`SourceParams.reading`): read in another way, it may
    become a task. If ``more`` is not 0, it is the number of further rows, which are not listed.
    If the bucket failed at this object alone, ``failures`` times in a row, it is due again at
    ``retry_at``.
    """

    key: str
    row: int | None
    version: str
    reason: str
    reading: str
    more: int = 0
    failures: int = 0
    retry_at: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether the object as a whole is in quarantine."""
        return self.row is None and not self.more

    @property
    def rows(self) -> int:
        """The number of rows that it stands for."""
        return 0 if self.is_whole else max(self.more, 1)


@dataclass(frozen=True, slots=True)
class ReadSidecar:
    """Which version of its sidecar an object was read with last; empty without one."""

    key: str
    sidecar: str
    version: str


@dataclass
class LedgerUpdate:
    """What the ledger records at once: what became of some objects and their rows."""

    loaded: list[TaskRow] = field(default_factory=list)
    """Rows that have a task; or had one and are to be loaded again, without ``task_id``."""
    quarantined: list[Quarantined] = field(default_factory=list)
    sidecars: list[ReadSidecar] = field(default_factory=list)
    """With what the objects were read, whether they get finished or not."""
    finished: list[KnownObject] = field(default_factory=list)
    """Objects that are done in this version."""
    forgotten: list[str] = field(default_factory=list)
    """Keys that are gone from the bucket and left no tasks."""
    dropped: list[TaskRow] = field(default_factory=list)
    """Rows whose tasks are deleted."""
    reopened: list[str] = field(default_factory=list)
    """Keys of objects that a run has to look at again, whatever their version."""


class Kind(str, Enum):
    """What an intent is about to do."""

    IMPORT = "import"
    """Make tasks of rows."""
    UPDATE = "update"
    """Replace the data and predictions of the tasks of rows by another version's."""
    DELETE = "delete"
    """Delete the tasks of rows."""
    WRITE = "write"
    """Write, replace or delete files of the target; a row is a file."""


OF_TASKS = (Kind.IMPORT, Kind.UPDATE, Kind.DELETE)


@dataclass(frozen=True, slots=True)
class Intent:
    """Effects that a run is about to have; the ledger records it before the first of them.

    It is open until the effects are recorded, too. Without an answer it stays open as long as a
    request may still arrive, and runs look for its effects: ``looks`` times so far, again at
    ``look_at``.
    """

    kind: Kind
    rows: tuple[TaskRow, ...]
    """As they are after the effects; without ``task_id`` if they are to be imported."""
    root: str
    """The URI that the rows' keys are relative to."""
    revision: int
    """The settings that decided it."""
    project_id: int = 0
    above: int = 0
    """An import's tasks are in this project, with higher ids."""
    token: str = ""
    """Stands in the origin of each task that the intent makes, and of no other."""
    id: int = 0
    began_at: float = 0.0
    looks: int = 0
    look_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Exported:
    """What was last written to the target for a task; without a digest, a run began to."""

    task_id: int
    updated_at: str
    digest: str
    uri: str
    annotations: int
    version: str = ""
    """The file's version; empty if the file is absent, or its version unknown."""
    size: int = 0
    """The completion's size (see `Completion.size`); 0 if it is unknown."""

    @property
    def is_unfinished(self) -> bool:
        """Whether a run began to write the file, and none recorded the outcome."""
        return not self.digest


@dataclass(frozen=True, slots=True)
class Binding:
    """How a connection is bound to its Label Studio projects and its target.

    ``generation`` counts the intents. The marks in Label Studio and in the target hold the
    generation that was current when they were written; ``app_generation`` and
    ``target_generation`` are those that were surely written.
    """

    generation: int
    app_generation: int
    target_generation: int
    target_root: str
    """The place of the target's mark; empty if none was written."""
    tasks_verified: bool
    """Whether the ledger knows all tasks of the connection. A new or restored one does not."""
    files_verified: bool
    """Whether the ledger knows what the target's files hold."""
    tasks_shown: int = 0
    files_shown: int = 0
    """How many tasks or files the last mass change that was stopped would have taken away."""


@dataclass(frozen=True, slots=True)
class BoundProject:
    """A project as the ledger knows it: its id, and when Label Studio created it."""

    id: int
    created_at: str
    marked: bool = False
    """Whether the project surely has our mark."""


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

QUEUE, SENSORS, DECLARATION = "queue", "sensors", "declaration"
"""What else is looked at: whether Dagster starts runs, whether the sensors' ticks succeed, and
whether a declaration could be applied."""

LOOKS = (*WORKS, QUEUE, SENSORS, DECLARATION)


@dataclass(frozen=True, slots=True)
class FailedLook:
    """Why a sensor can't see whether a connection needs a run of some work, or why none starts."""

    failure: str
    since: float
    """When the first of the looks failed, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class SeenChange:
    """A change that a look found, and that no run has dealt with yet."""

    objects: int
    """How many objects differ, at least; 0 if unknown."""
    since: float
    """When a look first found it."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the last runs of some work ended."""

    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    failure: str = ""
    passed_at: float = 0.0
    needs_decision: bool = False
    """Whether a person has to decide what is right, before a run can succeed."""
    since: float = 0.0
    """When the first of the failures in a row was recorded, or 0."""


class StoredSettings:
    """Settings as the ledger has them. This version may refuse what another one stored."""

    __slots__ = ()
    settings: Connection | StoredSettingsError

    @property
    def connection(self) -> Connection:
        """The settings. Raises ``StoredSettingsError``."""
        if isinstance(self.settings, StoredSettingsError):
            raise self.settings
        return self.settings

    @property
    def readable(self) -> Connection | None:
        """The settings; None if this version refuses them."""
        return None if isinstance(self.settings, StoredSettingsError) else self.settings

    @property
    def refusal(self) -> str:
        """Why this version refuses the settings; empty if it does not."""
        return str(self.settings) if isinstance(self.settings, StoredSettingsError) else ""


@dataclass(frozen=True, slots=True)
class Declared:
    """The declaration of a connection that was applied last."""

    document: Mapping[str, Any]
    place: str
    """Where it is; empty if it was withdrawn."""


@dataclass(frozen=True, slots=True)
class Revision(StoredSettings):
    """One stored state of a connection's settings."""

    number: int
    settings: Connection | StoredSettingsError
    """Or why this version refuses them."""
    saved_at: float
    saved_by: str
