"""Finds out what became of imports without an answer: a crash, a lost reply, an overtaken run.

Label Studio may commit an import long after its sender stopped waiting. So an import whose tasks
are missing stays pending: its rows are loaded again, and for some hours each run searches for
tasks that arrived after all. Of two tasks for one row, one is removed: never one that a person has
worked on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ls_pipeline.resources.ledger.records import LedgerUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.ledger.records import PendingImport, TaskRow

ARRIVAL_SECONDS = 15.0
"""How long an import may still take in Label Studio after its sender was cut off."""

PAUSE = 0.5
"""Seconds between searches within that time."""


class Reconciler:
    """Settles the pending imports of a connection's earlier runs, and of this one."""

    def __init__(self, run: RunContext) -> None:
        self.held, self.bucket = run.held, run.bucket
        self.projects, self.app = run.projects, run.app
        self.one_task_per_row = run.source.params.one_task_per_row
        """False if a replaced object gets a new task beside the old one."""
        self.arrived = 0
        self.removed = 0
        self.notes: list[str] = []

    def reconcile(self) -> None:
        """Record what arrived, and remove what arrived twice. Raises ``ExternalSystemError``."""
        for pending in self.held.imports.pending():
            arrived = self._arrived(pending)
            if not pending.rechecks:
                arrived = self._wait_for(pending, arrived)
            self._record(pending, arrived)
            self._remove_duplicates(arrived)
            if not pending.rechecks and len(arrived) == len(pending.rows):
                self.held.imports.record(LedgerUpdate(), closing=pending)
            else:  # after a recheck, what has arrived may be what was loaded again
                self.held.imports.keep_pending(pending)

    def take_back(self, rows: Sequence[TaskRow]) -> None:
        """Delete tasks that an overtaken run has just made, if a newer run made them too."""
        for row in rows:
            known = self.held.objects.rows_of(row.key).get(row.row)
            if known and known.task_id != row.task_id and self._is_duplicate(row, known):
                self._remove(row, known)

    # -- one import -------------------------------------------------------------------------

    def _arrived(self, pending: PendingImport) -> dict[TaskRow, list[int]]:
        """Return the rows of an import that Label Studio has, each with its tasks' ids."""
        expected = {(self.bucket.uri(row.key), row.row, row.version): row for row in pending.rows}
        arrived: dict[TaskRow, list[int]] = defaultdict(list)
        for task_id, origin in self.projects.origins_above(pending.project_id, pending.above):
            row = expected.get((origin.uri, origin.row, origin.version))
            if row:
                arrived[row].append(task_id)
        return arrived

    def _wait_for(
        self, pending: PendingImport, arrived: dict[TaskRow, list[int]]
    ) -> dict[TaskRow, list[int]]:
        """Wait for an import that was cut off a moment ago; return what has arrived by then."""
        while len(arrived) < len(pending.rows):
            if self.held.now() >= pending.began_at + ARRIVAL_SECONDS:
                break
            self.held.database.sleep(PAUSE)
            arrived = self._arrived(pending)
        return arrived

    def _record(self, pending: PendingImport, arrived: dict[TaskRow, list[int]]) -> None:
        rows = [replace(row, task_id=ids[0]) for row, ids in arrived.items()]
        if pending.rechecks:  # its rows were loaded again, except those that no run reached
            rows = [row for row in rows if not self._is_done(row)]
        self.held.imports.record(LedgerUpdate(loaded=rows))
        self.arrived += len(rows)

    def _is_done(self, row: TaskRow) -> bool:
        """Return whether a later run has dealt with this row: it has a task, or is gone."""
        has_task = row.row in self.held.objects.rows_of(row.key)
        return has_task or self.held.objects.is_finished(row.key)

    def _remove_duplicates(self, arrived: dict[TaskRow, list[int]]) -> None:
        for row, ids in arrived.items():
            known = self.held.objects.rows_of(row.key).get(row.row)
            if known is None:  # `_record` would have recorded it: the object lost this row
                self._remove_expired(row, ids)
                continue
            keep = known if self._is_duplicate(row, known) else replace(row, task_id=ids[0])
            for task_id in ids:
                if task_id != keep.task_id:
                    self._remove(replace(row, task_id=task_id), keep)

    def _remove_expired(self, row: TaskRow, ids: Sequence[int]) -> None:
        """Remove the late tasks of a row that its object no longer has."""
        for completion in self.projects.completions(ids):
            if completion.has_human_work:
                kept = replace(row, task_id=completion.task_id)
                self.held.imports.record(LedgerUpdate(loaded=[kept]))
            else:
                self._delete(completion.task_id)

    def _is_duplicate(self, row: TaskRow, known: TaskRow) -> bool:
        return self.one_task_per_row or row.version == known.version

    def _remove(self, duplicate: TaskRow, keep: TaskRow) -> None:
        """Remove one of two tasks of a row: the one that no person has worked on."""
        ids = [duplicate.task_id, keep.task_id]
        pairs = self.projects.tasks_of([duplicate, keep], self.bucket)
        existing = {row.task_id: task for row, task in pairs if task}
        if duplicate.task_id not in existing:
            return
        worked_on = [id_ for id_ in ids if id_ in existing and existing[id_].has_human_work]
        if len(worked_on) > 1:
            self.notes.append(
                f"{self.bucket.uri(duplicate.key)} has two tasks, {ids[0]} and {ids[1]}, and "
                "people have worked on both; delete the one that you don't want."
            )
        elif worked_on == [duplicate.task_id]:
            self.held.imports.record(LedgerUpdate(loaded=[duplicate]))
            if keep.task_id in existing:
                self._delete(keep.task_id)
        else:  # also if a person has deleted the other one
            self._delete(duplicate.task_id)

    def _delete(self, task_id: int) -> None:
        self.app.delete_task(task_id)
        self.removed += 1
