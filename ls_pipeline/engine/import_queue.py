"""Batches of tasks, imported into Label Studio one after the other, each row exactly once.

The protocol, per batch: write an attempt to the ledger, import, record the ids and close the
attempt. What a batch is refused for is found, and goes to quarantine; the rest is imported.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import LeaseLostError, TasksRefusedError
from ls_pipeline.resources.ledger.records import LoadedRow, Quarantined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.engine.context import Took
    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.engine.reconcile import Settling
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.records import Attempt
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Connection, Source

BATCH_ROWS = 1000
BATCH_BYTES = 8 * 2**20
"""Of one import call."""

SUSPECTS_AT_MOST = 20
"""Tasks that make Label Studio crash, one after the other, before it is Label Studio's fault."""


@dataclass(frozen=True, slots=True)
class Row:
    """A task on its way to Label Studio."""

    loaded: LoadedRow
    body: dict[str, Any]
    size: int


@dataclass
class Batch:
    """Rows to import, and what the ledger is to learn with them."""

    rows: list[Row] = field(default_factory=list)
    passed: list[LoadedRow] = field(default_factory=list)
    rejections: list[Quarantined] = field(default_factory=list)
    finished: list[KnownObject] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    dropped: list[LoadedRow] = field(default_factory=list)
    bytes: int = 0

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.bytes += row.size

    @property
    def full(self) -> bool:
        gone = len(self.forgotten) + len(self.dropped)
        ledger_rows = len(self.passed) + len(self.finished) + gone
        return max(len(self.rows), ledger_rows) >= BATCH_ROWS or self.bytes >= BATCH_BYTES


class Importing:
    """Imports the batches of one pass, each in another thread while the next is made ready."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a pass that it works with
        self,
        account: Account,
        lease: Lease,
        connection: Connection,
        source: Source,
        bucket: Bucket,
        projects: Projects,
        newest: Project,
        settling: Settling,
        took: Took,
        progress: Progress,
    ) -> None:
        self.account, self.lease, self.connection = account, lease, connection
        self.params, self.bucket = source.params, bucket
        self.projects, self.app, self.settling = projects, projects.app, settling
        self.took, self.progress = took, progress
        self.created = settling.arrived
        """Tasks that this pass made, or found of those that were open."""
        self.notes: list[str] = []
        self.unsettled: set[str] = set()
        """Keys that differ from what the ledger knows, and are not recorded yet."""
        self._project = newest
        self._suspects: list[tuple[Row, TasksRefusedError]] = []
        self._withheld: list[KnownObject] = []
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None
        """The import of the batch before; never two at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def put(self, batch: Batch) -> None:
        """Have a batch imported after the one before it; raise what that one raised."""
        self.wait()
        self._under_way = self._thread.submit(self._load, batch)

    def wait(self) -> None:
        """Wait until Label Studio is at work for nobody else; raise what the import raised."""
        if self._under_way:
            done, self._under_way = self._under_way, None
            done.result()

    def blame_suspects(self) -> None:
        """Quarantine the tasks that Label Studio crashed on, if it took others meanwhile."""
        if not self._suspects:
            return
        if not self.created:
            raise self._suspects[0][1]
        self.account.record(
            self.lease,
            rejections=[self._quarantined(row, str(error)) for row, error in self._suspects],
            finished=self._withheld,
        )

    def _load(self, batch: Batch) -> None:
        """Import a batch, then record it with the objects that it finishes."""
        attempt, loaded = self._spread(batch.rows)
        # An object with a suspect row is not finished: the row's fate is open.
        open_keys = {row.loaded.key for row, _ in self._suspects}
        self._withheld += [one for one in batch.finished if one.key in open_keys]
        batch.finished = [one for one in batch.finished if one.key not in open_keys]
        self._record(attempt, loaded, batch)
        self.unsettled -= {*(one.key for one in batch.finished), *batch.forgotten}

    def _spread(self, rows: Sequence[Row]) -> tuple[Attempt | None, list[LoadedRow]]:
        """Import rows into the newest project, and what it has no room for into further ones.

        The last of them are given as `_imported` gives them.
        """
        while rows and (room := self._room(len(rows))) < len(rows):
            self._import(rows[:room])
            rows = rows[room:]
        return self._imported(rows)

    def _room(self, wanted: int) -> int:
        """Tell how many tasks fit into the newest project; begin a further one if it is full."""
        size = self.params.tasks_per_project
        if not size:
            return wanted
        self._project = self.app.project(self._project.id)
        while self._project.tasks >= size:
            full = self._project
            self._project = self.projects.begin_next(self.lease, self.connection)
            self.notes += self.projects.register_storage(
                self.bucket, self.params, [self._project.id]
            )
            self.notes.append(
                f"Project {full.title!r} has {full.tasks} tasks, and is full; new ones go to "
                f"{self._project.title!r}, {self._project.url}."
            )
        return size - self._project.tasks

    def _import(self, rows: Sequence[Row]) -> None:
        """Import rows, as one batch if Label Studio takes it, else without the culprits."""
        attempt, loaded = self._imported(rows)
        if attempt:
            self._record(attempt, loaded, Batch())

    def _imported(self, rows: Sequence[Row]) -> tuple[Attempt | None, list[LoadedRow]]:
        """Import rows, and give them with their tasks and an attempt to close.

        Where the batch is refused, that is dealt with: there is none.
        """
        if not rows:
            return None, []
        above = self.app.highest_task_id(self._project.id)
        attempt = self.account.open_attempt(
            self.lease, self._project.id, above, [row.loaded for row in rows]
        )
        try:
            with self.took.timing("importing"):
                ids = self.app.import_tasks(self._project.id, [row.body for row in rows])
        except TasksRefusedError as error:
            self._refused(attempt, rows, error)
            return None, []
        numbered = zip(rows, ids, strict=True)
        return attempt, [replace(row.loaded, task_id=number) for row, number in numbered]

    def _record(self, attempt: Attempt | None, loaded: list[LoadedRow], batch: Batch) -> None:
        """Record rows that are loaded, and with them what else a batch holds."""
        try:
            self.account.record(
                self.lease,
                attempt=attempt,
                loaded=[*loaded, *batch.passed],
                rejections=batch.rejections,
                finished=batch.finished,
                forgotten=batch.forgotten,
                dropped=batch.dropped,
            )
        except LeaseLostError:
            self.settling.take_back(loaded)
            raise
        self.created += len(loaded)
        self.progress.advance(self.connection.name, "tasks", self.created)

    def _refused(self, attempt: Attempt, rows: Sequence[Row], error: TasksRefusedError) -> None:
        """Find the culprits of a refused batch; nothing of it was stored."""
        reasons = error.reasons
        if len(rows) == 1 and not error.crashed:
            reasons = reasons or {0: str(error)}
        culprits = [self._quarantined(rows[n], reason) for n, reason in reasons.items()]
        self.account.record(self.lease, attempt=attempt, rejections=culprits)
        if reasons:
            self._import([row for n, row in enumerate(rows) if n not in reasons])
        elif len(rows) > 1:
            middle = len(rows) // 2
            self._import(rows[:middle])
            self._import(rows[middle:])
        else:
            self._suspects.append((rows[0], error))
            if len(self._suspects) >= SUSPECTS_AT_MOST:
                raise error

    def _quarantined(self, row: Row, reason: str) -> Quarantined:
        one = row.loaded
        return Quarantined(one.key, one.row, one.version, reason, self.params.reading)
