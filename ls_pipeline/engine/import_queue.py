"""Imports batches of tasks into Label Studio, one after the other, each row exactly once.

For each batch: record a pending import in the ledger, import, then record the ids and close the
pending import. If Label Studio refuses a batch, the bad rows go to quarantine and the rest is
imported.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import LeaseLostError, TasksRefusedError
from ls_pipeline.resources.ledger.records import LedgerUpdate, Quarantined, TaskRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.reconcile import Reconciler
    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.resources.ledger.records import PendingImport

BATCH_ROWS = 1000
BATCH_BYTES = 8 * 2**20
"""Limits of one import call."""

SUSPECTS_AT_MOST = 20
"""Tasks in a row that make Label Studio crash, before it counts as Label Studio's fault."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A row on its way to become a task: what the ledger records, what Label Studio gets."""

    row: TaskRow
    body: dict[str, Any]
    size: int


@dataclass
class Batch:
    """Tasks to import, and what the ledger records with them."""

    tasks: list[NewTask] = field(default_factory=list)
    update: LedgerUpdate = field(default_factory=LedgerUpdate)
    bytes: int = 0

    def add(self, task: NewTask) -> None:
        self.tasks.append(task)
        self.bytes += task.size

    @property
    def is_full(self) -> bool:
        update = self.update
        gone = len(update.forgotten) + len(update.dropped)
        ledger_rows = len(update.loaded) + len(update.finished) + gone
        return max(len(self.tasks), ledger_rows) >= BATCH_ROWS or self.bytes >= BATCH_BYTES


class ImportQueue:
    """Imports the batches of one run in a second thread, while the next batch is prepared."""

    def __init__(self, run: RunContext, newest: Project, reconciler: Reconciler) -> None:
        self.run, self.held, self.app = run, run.held, run.app
        self.params = run.source.params
        self.reconciler = reconciler
        self.created = reconciler.arrived
        """Tasks that this run made, or that had arrived from an earlier run."""
        self.notes: list[str] = []
        self.unfinished: set[str] = set()
        """Keys that differ from what the ledger knows, and are not recorded yet."""
        self._project = newest
        self._suspects: list[tuple[NewTask, TasksRefusedError]] = []
        self._withheld: list[KnownObject] = []
        self._thread = ThreadPoolExecutor(1)
        self._current: Future[set[str]] | None = None
        """The import of the batch before, and the keys that it finishes. Never two at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def put(self, batch: Batch) -> None:
        """Import a batch after the one before it; raise what that one raised."""
        self.wait()
        self._current = self._thread.submit(self._load, batch)

    def wait(self) -> None:
        """Wait until no import is under way; raise what it raised."""
        if self._current:
            done, self._current = self._current, None
            self.unfinished -= done.result()

    def blame_suspects(self) -> None:
        """Quarantine the tasks that made Label Studio crash, if it accepted other tasks."""
        if not self._suspects:
            return
        if not self.created:
            raise self._suspects[0][1]
        quarantined = [self._quarantined(task, str(error)) for task, error in self._suspects]
        self.held.imports.record(LedgerUpdate(quarantined=quarantined, finished=self._withheld))

    def _load(self, batch: Batch) -> set[str]:
        """Import a batch and record it; return the keys that it finishes."""
        pending, loaded = self._import_all(batch.tasks)
        # An object with a suspect row is not finished: it is open what becomes of the row.
        update, suspect_keys = batch.update, {task.row.key for task, _ in self._suspects}
        self._withheld += [known for known in update.finished if known.key in suspect_keys]
        update.finished = [known for known in update.finished if known.key not in suspect_keys]
        self._record(pending, loaded, update)
        return {*(known.key for known in update.finished), *update.forgotten}

    def _import_all(
        self, tasks: Sequence[NewTask]
    ) -> tuple[PendingImport | None, Sequence[TaskRow]]:
        """Import tasks into the newest project, and those without room into overflow projects.

        The last of them are returned as `_import` returns them.
        """
        while tasks and (room := self._room(len(tasks))) < len(tasks):
            self._import_and_record(tasks[:room])
            tasks = tasks[room:]
        return self._import(tasks)

    def _room(self, wanted: int) -> int:
        """Return how many tasks fit into the newest project; begin another if it is full."""
        size = self.params.tasks_per_project
        if not size:
            return wanted
        self._project = self.app.project(self._project.id)
        while self._project.tasks >= size:
            full, projects = self._project, self.run.projects
            self._project = projects.begin_overflow()
            self.notes += projects.register_storage(
                self.run.bucket, self.params, [self._project.id]
            )
            self.notes.append(
                f"Project {full.title!r} has {full.tasks} tasks, and is full; new ones go to "
                f"{self._project.title!r}, {self._project.url}."
            )
        return size - self._project.tasks

    def _import_and_record(self, tasks: Sequence[NewTask]) -> None:
        """Import tasks, as one batch if Label Studio accepts it, else without the bad ones."""
        pending, loaded = self._import(tasks)
        if pending:
            self._record(pending, loaded, LedgerUpdate())

    def _import(self, tasks: Sequence[NewTask]) -> tuple[PendingImport | None, Sequence[TaskRow]]:
        """Import tasks; return their rows with the ids, and the pending import to close.

        A refused batch is dealt with here, and leaves no pending import to close.
        """
        if not tasks:
            return None, []
        above = self.app.highest_task_id(self._project.id)
        pending = self.held.imports.begin(self._project.id, above, [task.row for task in tasks])
        try:
            with self.run.timings.timing("importing"):
                ids = self.app.import_tasks(self._project.id, [task.body for task in tasks])
        except TasksRefusedError as error:
            self._handle_refusal(pending, tasks, error)
            return None, []
        numbered = zip(tasks, ids, strict=True)
        return pending, [replace(task.row, task_id=task_id) for task, task_id in numbered]

    def _record(
        self, pending: PendingImport | None, loaded: Sequence[TaskRow], update: LedgerUpdate
    ) -> None:
        """Record rows that are loaded, together with the rest of a batch."""
        update.loaded = [*loaded, *update.loaded]
        try:
            self.held.imports.record(update, closing=pending)
        except LeaseLostError:
            self.reconciler.take_back(loaded)
            raise
        self.created += len(loaded)
        self.run.advance("tasks", self.created)

    def _handle_refusal(
        self, pending: PendingImport, tasks: Sequence[NewTask], error: TasksRefusedError
    ) -> None:
        """Find the bad tasks of a refused batch and import the others; nothing was stored."""
        reasons = error.reasons
        if len(tasks) == 1 and not error.crashed:
            reasons = reasons or {0: str(error)}
        bad = [self._quarantined(tasks[n], reason) for n, reason in reasons.items()]
        self.held.imports.record(LedgerUpdate(quarantined=bad), closing=pending)
        if reasons:
            self._import_and_record([task for n, task in enumerate(tasks) if n not in reasons])
        elif len(tasks) > 1:
            middle = len(tasks) // 2
            self._import_and_record(tasks[:middle])
            self._import_and_record(tasks[middle:])
        else:
            self._suspects.append((tasks[0], error))
            if len(self._suspects) >= SUSPECTS_AT_MOST:
                raise error

    def _quarantined(self, task: NewTask, reason: str) -> Quarantined:
        row = task.row
        return Quarantined(row.key, row.row, row.version, reason, self.params.reading)
