"""Brings batches of rows to Label Studio, one after the other, each row exactly once.

For each batch: record an intent in the ledger, import, then record the ids and close the intent;
the same for updates. If Label Studio refuses a batch, the bad rows go to quarantine and the rest is
imported.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import (
    ExternalSystemError,
    TaskPartsLostError,
    TasksRefusedError,
)
from ls_pipeline.domain.notes import Notes, shorten
from ls_pipeline.resources.ledger.records import (
    Intent,
    Kind,
    LedgerUpdate,
    Quarantined,
    TaskRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.effects import NewTask
    from ls_pipeline.engine.reconcile import Reconciler

BATCH_ROWS = 1000
BATCH_BYTES = 8 * 2**20
"""Limits of one import call."""

REJECTIONS_KEPT = 100
"""Rejected rows of one object that the ledger lists; of the others, it has the number."""

MAX_IMPORTS = 3
"""How often the same tasks are imported if Label Studio loses their annotations."""

SUSPECTS_AT_MOST = 20
"""Tasks in a row that make Label Studio crash, before it counts as Label Studio's fault."""


@dataclass
class Batch:
    """Tasks to import and to update, and what the ledger records with them."""

    tasks: list[NewTask] = field(default_factory=list)
    updates: list[NewTask] = field(default_factory=list)
    update: LedgerUpdate = field(default_factory=LedgerUpdate)
    bytes: int = 0

    def add(self, task: NewTask) -> None:
        """Add a row to import, or to update if it has a task."""
        (self.updates if task.row.task_id else self.tasks).append(task)
        self.bytes += len(task.text)

    @property
    def is_full(self) -> bool:
        update = self.update
        ledger_rows = len(update.loaded) + len(update.finished) + len(update.forgotten)
        ledger_rows += len(update.quarantined)
        tasks = len(self.tasks) + len(self.updates)
        return max(tasks, ledger_rows) >= BATCH_ROWS or self.bytes >= BATCH_BYTES


def kept_note(root: str, row: TaskRow, what: str) -> str:
    """Return a sentence for a task that stays as it is, although its object is gone or changed."""
    return (
        f"{root}{row.key} {what}, but a person has worked on task {row.task_id}: the task was left "
        "as it is."
    )


class _Bodies(Sequence[dict[str, Any]]):
    """The bodies of tasks for one import, each built when it is read."""

    def __init__(self, tasks: Sequence[NewTask], token: str) -> None:
        self._tasks, self._token = tasks, token

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Bodies(self._tasks[index], self._token)
        return self._tasks[index].body(self._token)


def _numbered(tasks: Sequence[NewTask], ids: Sequence[int]) -> list[TaskRow]:
    """Return the rows of tasks with their ids."""
    return [replace(task.row, task_id=n) for task, n in zip(tasks, ids, strict=True)]


class ImportQueue:
    """Imports the batches of one run in a second thread, while the next batch is prepared."""

    def __init__(self, run: RunContext, reconciler: Reconciler) -> None:
        self.run, self.held, self.app = run, run.held, run.app
        self.params, self.root = run.source.params, run.bucket.uri()
        self.reconciler = reconciler
        self.created = reconciler.arrived
        """Tasks that this run made, or that had arrived from an earlier run."""
        self.updated = 0
        self.kept = 0
        """Tasks that were not updated: a person has worked on them."""
        self._kept: dict[str, tuple[TaskRow, int]] = {}
        """By object, the first of its rows whose tasks were not updated, and how many they are."""
        self.notes = Notes()
        self.unfinished: set[str] = set()
        """Keys that differ from what the ledger knows, and are not recorded yet."""
        self.outdated: set[str] = set()
        """Keys of finished objects whose sidecars have changed since they were read."""
        self.storages: Future[list[str]] | None = None
        """The registration of storage connections, which the first import waits for."""
        self._project = run.projects.newest
        self._most_bytes = BATCH_BYTES
        """How large an import may be; less if a proxy refused one."""
        self._suspects: list[tuple[TaskRow, TasksRefusedError]] = []
        self._withheld: list[KnownObject] = []
        self._rejected: Counter[str] = Counter()
        """How many rows of each unfinished object are rejected."""
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
            self.unfinished |= self.outdated

    def wait_for_storages(self) -> None:
        """Wait until annotators can open the objects; note what prevents it."""
        if self.storages:
            done, self.storages = self.storages, None
            self.notes += done.result()

    def blame_suspects(self) -> None:
        """Quarantine the tasks that made Label Studio crash, if it accepted other tasks."""
        if not self._suspects:
            return
        if not self.created:
            raise self._suspects[0][1]
        quarantined = [self._quarantined(row, str(error)) for row, error in self._suspects]
        update = LedgerUpdate(quarantined=self._capped(quarantined), finished=self._withheld)
        self.outdated |= self.held.intents.record(update)

    def _load(self, batch: Batch) -> set[str]:
        """Update and import a batch, and record it; return the keys that it finishes."""
        if batch.update.sidecars:
            self.held.sidecars.record(batch.update.sidecars)
        absent = self._update(batch.updates) if batch.updates else []
        intent, loaded = self._import_all([*batch.tasks, *absent])
        # An object with a suspect row is not finished: it is open what becomes of the row.
        update, suspect_keys = batch.update, {row.key for row, _ in self._suspects}
        self._withheld += [known for known in update.finished if known.key in suspect_keys]
        update.finished = [known for known in update.finished if known.key not in suspect_keys]
        update.quarantined = self._capped(update.quarantined)
        outdated = self._record(intent, loaded, update)
        for known in update.finished:
            self._rejected.pop(known.key, None)
        done = {*(known.key for known in update.finished), *update.forgotten}
        self.outdated = (self.outdated - done) | outdated
        return done

    def _update(self, tasks: Sequence[NewTask]) -> list[NewTask]:
        """Update tasks; return those that a person has deleted: their versions are new tasks.

        What Label Studio refuses goes to quarantine.
        """
        adds = self.params.predictions_on_labeled == "add"
        outcome = self.run.effects.update_tasks(tasks, self.root, adds_predictions=adds)
        loaded = [*outcome.done, *outcome.kept]
        refused = [self._quarantined(row, reason) for row, reason in outcome.refused.items()]
        update = LedgerUpdate(loaded=loaded, quarantined=self._capped(refused))
        self.held.intents.record(update, closing=outcome.intent)
        self.updated += len(outcome.done)
        self._keep(outcome.kept)
        absent = set(outcome.absent)
        return [
            replace(task, row=replace(task.row, task_id=0)) for task in tasks if task.row in absent
        ]

    def _keep(self, rows: Sequence[TaskRow]) -> None:
        self.kept += len(rows)
        for row in rows:
            first, count = self._kept.get(row.key, (row, 0))
            self._kept[row.key] = first, count + 1

    @property
    def kept_notes(self) -> Iterator[str]:
        """A sentence for each object with tasks that people have worked on, and that stayed."""
        for row, count in self._kept.values():
            if count == 1:
                yield kept_note(self.root, row, "changed")
            else:
                yield (
                    f"{self.root}{row.key} changed, but people have worked on {count:,} of its "
                    f"tasks, such as task {row.task_id}: these tasks were left as they are."
                )

    def _import_all(self, tasks: Sequence[NewTask]) -> tuple[Intent | None, Sequence[TaskRow]]:
        """Import tasks into the newest project, and those without room into overflow projects.

        Each import is as large as Label Studio is known to accept. The last one is returned as
        `_import` returns it.
        """
        while tasks and (room := self._room(self._fitting(tasks))) < len(tasks):
            self._import_and_record(tasks[:room])
            tasks = tasks[room:]
        return self._import(tasks)

    def _fitting(self, tasks: Sequence[NewTask]) -> int:
        """Return how many of the tasks one import may have; at least one."""
        sizes = accumulate(len(task.text) for task in tasks)
        return max(1, sum(size <= self._most_bytes for size in sizes))

    def _room(self, wanted: int) -> int:
        """Return how many tasks fit into the newest project; begin another if it is full."""
        size = self.params.tasks_per_project
        if not size:
            return wanted
        self._project = self.app.project(self._project.id)
        while self._project.tasks >= size:
            full, projects = self._project, self.run.projects
            self._project = projects.begin_overflow()
            self.notes += projects.register_storages(
                self.run.bucket, self.run.source, [self._project.id]
            )
            self.notes.append(
                f"Project {full.title!r} has {full.tasks} tasks, and is full; new ones go to "
                f"{self._project.title!r}, {self._project.url}."
            )
        return min(wanted, size - self._project.tasks)

    def _import_and_record(self, tasks: Sequence[NewTask]) -> None:
        """Import tasks, as one batch if Label Studio accepts it, else without the bad ones."""
        intent, loaded = self._import(tasks)
        if intent:
            self._record(intent, loaded, LedgerUpdate())

    def _import(
        self, tasks: Sequence[NewTask], tries: int = MAX_IMPORTS
    ) -> tuple[Intent | None, Sequence[TaskRow]]:
        """Import tasks; return their rows with the ids, and the intent to close.

        A refused batch is dealt with here, and leaves no intent to close.
        """
        if not tasks:
            return None, []
        intent = self._begin(tasks)
        try:
            self.wait_for_storages()
        except ExternalSystemError:
            self.held.intents.close(intent)  # nothing of it has happened
            raise
        began = time.monotonic(), time.time()
        try:
            with self.run.timings.timing("importing"):
                bodies = _Bodies(tasks, intent.token)
                ids = self.app.import_tasks(self._project.id, bodies)
        except TaskPartsLostError as error:
            return self._handle_lost_parts(intent, tasks, error, tries - 1)
        except TasksRefusedError as error:
            made, copies = self.reconciler.look_for(intent) if error.crashed else ([], [])
            if made:
                self._remove_copies(copies)
                return intent, made
            self._handle_refusal(intent, tasks, error)
            return None, []
        # By both clocks: one stands still while this host is suspended, the other may be set.
        seconds = max(time.monotonic() - began[0], time.time() - began[1])
        if seconds < self.app.repeats_after:
            return intent, _numbered(tasks, ids)
        return intent, self._numbered(intent, tasks, ids)

    def _numbered(
        self, intent: Intent, tasks: Sequence[NewTask], ids: Sequence[int]
    ) -> Sequence[TaskRow]:
        """Return the rows of an import with the ids of their tasks.

        If its SQLite database is locked after the commit, Label Studio stores the tasks again, and
        returns the ids of the second time (``retry_database_locked``). The first ones stay.
        """
        is_gap = ids[0] > intent.above + 1
        if is_gap and self.app.count_tasks_above(intent.project_id, intent.above) > len(ids):
            made, copies = self.reconciler.look_for(intent)
            if copies:
                self._remove_copies(copies)
                return made
        return _numbered(tasks, ids)

    def _remove_copies(self, copies: Sequence[TaskRow]) -> None:
        """Delete tasks that Label Studio stored a second time, before any person knew of them."""
        if copies:
            outcome = self.run.effects.delete_tasks(copies, self.root)
            self.held.intents.close(outcome.intent)

    def _begin(self, tasks: Sequence[NewTask]) -> Intent:
        # Any id below those of the new tasks will do; a project without tasks has no other.
        above = self.app.highest_task_id(self._project.id) if self._project.tasks else 0
        self._project = replace(self._project, tasks=self._project.tasks + len(tasks))
        rows = tuple(task.row for task in tasks)
        intent = Intent(Kind.IMPORT, rows, self.root, self.run.revision.number)
        token = uuid.uuid4().hex[:16]
        return self.run.effects.begin(
            replace(intent, project_id=self._project.id, above=above, token=token)
        )

    def _handle_lost_parts(
        self, intent: Intent, tasks: Sequence[NewTask], error: TaskPartsLostError, tries: int
    ) -> tuple[Intent | None, Sequence[TaskRow]]:
        """Delete tasks that lost their predictions or annotations, and import them again.

        If Label Studio stored the tasks twice, the first ones are whole. Tasks that a person has
        worked on by now stay.
        """
        made, copies = self.reconciler.look_for(intent)
        if copies:
            self._remove_copies(copies)
            return intent, made
        numbered = zip(tasks, error.task_ids, strict=True)
        rows = {replace(task.row, task_id=task_id): task for task, task_id in numbered}
        outcome = self.run.effects.delete_tasks(list(rows), self.root)
        self._record(intent, outcome.kept, LedgerUpdate())
        self.held.intents.close(outcome.intent)
        if not tries:
            raise error
        return self._import([rows[row] for row in outcome.done], tries)

    def _record(
        self, intent: Intent | None, loaded: Sequence[TaskRow], update: LedgerUpdate
    ) -> set[str]:
        """Record rows that are loaded, together with the rest of a batch.

        Returns the keys of objects whose sidecars have changed.
        """
        update.loaded = [*loaded, *update.loaded]
        outdated = self.held.intents.record(update, closing=intent)
        self.created += len(loaded)
        self.run.advance("tasks", self.created)
        return outdated

    def _handle_refusal(
        self, intent: Intent, tasks: Sequence[NewTask], error: TasksRefusedError
    ) -> None:
        """Find the bad tasks of a refused batch and import the others.

        If Label Studio crashed, the refused batch may still arrive: its intent stays open.
        """
        if error.too_large:
            self._most_bytes = sum(len(task.text) for task in tasks) // 2
        reasons = error.reasons
        if len(tasks) == 1 and not error.crashed:
            reasons = reasons or {0: str(error)}
        bad = [self._quarantined(tasks[n].row, reason) for n, reason in reasons.items()]
        closing = None if error.crashed else intent
        self.held.intents.record(LedgerUpdate(quarantined=self._capped(bad)), closing=closing)
        if reasons:
            self._import_and_record([task for n, task in enumerate(tasks) if n not in reasons])
        elif len(tasks) > 1:
            middle = len(tasks) // 2
            self._import_and_record(tasks[:middle])
            self._import_and_record(tasks[middle:])
        else:
            self._suspects.append((tasks[0].row, error))
            if len(self._suspects) >= SUSPECTS_AT_MOST:
                raise error

    def _quarantined(self, row: TaskRow, reason: str) -> Quarantined:
        reading = self.params.reading
        return Quarantined(row.key, row.position, row.version, shorten(reason), reading)

    def _capped(self, rejected: Sequence[Quarantined]) -> list[Quarantined]:
        """Return what the ledger keeps: the first rejected rows of an object, and their number."""
        kept, more = [], dict[str, Quarantined]()
        for item in rejected:
            self._rejected[item.key] += item.rows
            further = self._rejected[item.key] - REJECTIONS_KEPT
            if item.is_whole or further <= 0:
                kept.append(item)
            else:
                reason = f"… and {further:,} more rows of this object."
                more[item.key] = replace(item, row=None, reason=reason, more=further)
        return [*kept, *more.values()]
