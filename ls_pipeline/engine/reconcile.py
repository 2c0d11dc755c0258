"""What became of imports whose outcome nobody told: a crash, a lost reply, a run overtaken.

Label Studio may commit an import long after we stopped waiting for it. So an attempt of which
tasks are missing is in doubt: they are loaded again, and for some hours each pass looks for
those that arrived after all. Of two tasks for one row, one goes: never the one that somebody
has worked on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ls_pipeline.engine.projects import ours_above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.records import Attempt, LoadedRow

PATIENCE = 15.0
"""Seconds that an import may still take in Label Studio after its sender was cut off."""

PAUSE = 0.5
"""Seconds between looks while we wait for that."""


class Settling:
    """Settles the attempts of one connection's earlier passes, and of this one."""

    def __init__(
        self,
        account: Account,
        lease: Lease,
        bucket: Bucket,
        projects: Projects,
        *,
        one_task_per_row: bool,
    ) -> None:
        self.account, self.lease, self.bucket = account, lease, bucket
        self.projects, self.app = projects, projects.app
        self.one_task_per_row = one_task_per_row
        """False where a replaced object gets a new task beside the old one."""
        self.arrived = 0
        self.doubled = 0
        self.notes: list[str] = []

    def settle(self) -> None:
        """Take up what arrived, and remove what arrived twice. Raises ``ExternalSystemError``."""
        for attempt in self.account.attempts():
            arrived = self._arrived(attempt)
            if not attempt.looks:
                arrived = self._wait(attempt, arrived)
            self._take_up(attempt, arrived)
            self._remove_doubles(arrived)
            if not attempt.looks and len(arrived) == len(attempt.rows):
                self.account.record(self.lease, attempt=attempt)
            else:  # what has arrived of one in doubt may be what was loaded again
                self.account.doubt(self.lease, attempt)

    def take_back(self, rows: Sequence[LoadedRow]) -> None:
        """Delete tasks that an overtaken run has just made, where a newer one made them too."""
        for row in rows:
            known = self.account.rows_of(row.key).get(row.row)
            if known and known.task_id != row.task_id and self._is_double(row, known):
                self._remove(row, known)

    # -- one attempt ------------------------------------------------------------------------

    def _arrived(self, attempt: Attempt) -> dict[LoadedRow, list[int]]:
        """Give the rows of an attempt that Label Studio has, each with its tasks' ids."""
        wanted = {(self.bucket.uri(row.key), row.row, row.version): row for row in attempt.rows}
        arrived: dict[LoadedRow, list[int]] = defaultdict(list)
        for number, origin in ours_above(self.app, self.account, attempt.project_id, attempt.above):
            row = wanted.get((origin.uri, origin.row, origin.version))
            if row:
                arrived[row].append(number)
        return arrived

    def _wait(
        self, attempt: Attempt, arrived: dict[LoadedRow, list[int]]
    ) -> dict[LoadedRow, list[int]]:
        """Give an import that was cut off a moment ago the time to arrive."""
        ledger = self.account.ledger
        while len(arrived) < len(attempt.rows):
            if ledger.clock() >= attempt.opened_at + PATIENCE:
                break
            ledger.sleep(PAUSE)
            arrived = self._arrived(attempt)
        return arrived

    def _take_up(self, attempt: Attempt, arrived: dict[LoadedRow, list[int]]) -> None:
        found = [replace(row, task_id=ids[0]) for row, ids in arrived.items()]
        if attempt.looks:  # its rows were loaded again meanwhile, but for those nobody got to
            found = [row for row in found if not self._is_dealt_with(row)]
        self.account.record(self.lease, loaded=found)
        self.arrived += len(found)

    def _is_dealt_with(self, row: LoadedRow) -> bool:
        """Tell whether a pass came to this row meanwhile: it has a task, or is gone."""
        there = row.row in self.account.rows_of(row.key)
        return there or self.account.is_finished(row.key)

    def _remove_outlived(self, row: LoadedRow, ids: Sequence[int]) -> None:
        """Remove the late tasks of a row that its object has no more."""
        for one in self.projects.completions(ids):
            if one.has_human_work:
                self.account.record(self.lease, loaded=[replace(row, task_id=one.task_id)])
            else:
                self.app.delete_task(one.task_id)
                self.doubled += 1

    def _remove_doubles(self, arrived: dict[LoadedRow, list[int]]) -> None:
        for row, ids in arrived.items():
            known = self.account.rows_of(row.key).get(row.row)
            if known is None:  # what is not known after `_take_up` is gone
                self._remove_outlived(row, ids)
                continue
            keep = known if self._is_double(row, known) else replace(row, task_id=ids[0])
            for number in ids:
                if number != keep.task_id:
                    self._remove(replace(row, task_id=number), keep)

    def _is_double(self, row: LoadedRow, known: LoadedRow) -> bool:
        return self.one_task_per_row or row.version == known.version

    def _remove(self, double: LoadedRow, keep: LoadedRow) -> None:
        """Remove one of two tasks of a row: the one that nobody has worked on."""
        ids = [double.task_id, keep.task_id]
        found = self.projects.tasks_of([double, keep], self.bucket)
        there = {row.task_id: task for row, task in found if task}
        if double.task_id not in there:
            return
        worked = [number for number in ids if number in there and there[number].has_human_work]
        if len(worked) > 1:
            self.notes.append(
                f"{self.bucket.uri(double.key)} has two tasks, {ids[0]} and {ids[1]}, and both "
                "are worked on: delete the one that you don't want."
            )
        elif worked == [double.task_id]:
            self.account.record(self.lease, loaded=[double])
            if keep.task_id in there:
                self.app.delete_task(keep.task_id)
                self.doubled += 1
        else:  # also where a person deleted the other one meanwhile
            self.app.delete_task(double.task_id)
            self.doubled += 1
