"""Deletes the tasks of rows that are gone. They come last in a run, when all of them are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.mass_change import FEWEST, is_mass_change
from ls_pipeline.domain.notes import Notes
from ls_pipeline.engine.guard import check_mass_change
from ls_pipeline.engine.import_queue import BATCH_ROWS, kept_note
from ls_pipeline.resources.ledger.records import LedgerUpdate

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.ledger.records import TaskRow


class _Removal(NamedTuple):
    """The rows of an object whose tasks are to be deleted. That finishes the object."""

    rows: array[int]
    """Their numbers, which take a fiftieth of their memory."""
    finishes: KnownObject


class Removals:
    """Gathers rows that are gone from their objects, or with them, and deletes their tasks."""

    def __init__(self, run: RunContext) -> None:
        self.run, self.held, self.root = run, run.held, run.bucket.uri()
        self.deleted = 0
        self.kept = 0
        """Tasks that were not deleted: a person has worked on them."""
        self.notes = Notes()
        self.outdated: set[str] = set()
        """Keys of finished objects whose sidecars are gone."""
        self._removals: list[_Removal] = []
        self._kept_keys: set[str] = set()

    @property
    def keys(self) -> set[str]:
        """The objects that `carry_out` finishes."""
        return {removal.finishes.key for removal in self._removals}

    def add(self, rows: array[int], finishes: KnownObject) -> None:
        """Delete the tasks of these rows of an object later, and then finish it."""
        self._removals.append(_Removal(rows, finishes))

    def carry_out(self) -> None:
        """Delete the tasks, each unless a person has worked on it.

        Raises ``MassChangeError`` before the first if they are too many.
        """
        self._guard()
        for rows, finished in self._batches():
            self._delete(rows, finished)

    def _guard(self) -> None:
        count = sum(len(removal.rows) for removal in self._removals)
        if count < FEWEST:
            return
        total = self.held.objects.count_tasks()
        if is_mass_change(count, total):  # then it is worth counting those that would stay
            count = 0
            for rows, _ in self._batches():
                pairs = self.run.projects.tasks_of(rows, self.root)
                count += sum(bool(task and not task.has_human_work) for _, task in pairs)
        check_mass_change(self.run, "tasks", count, total)

    def _batches(self) -> Iterator[tuple[Sequence[TaskRow], Sequence[KnownObject]]]:
        """Yield rows to delete at once, and the objects that are finished then."""
        places: list[tuple[str, int]] = []
        finished: list[KnownObject] = []
        for removal in self._removals:
            key = removal.finishes.key
            *parts, last = batches(removal.rows, BATCH_ROWS)
            for part in parts:
                yield self._rows([(key, row) for row in part]), []
            places += [(key, row) for row in last]
            finished.append(removal.finishes)
            if len(places) >= BATCH_ROWS:
                yield self._rows(places), finished
                places, finished = [], []
        if finished:
            yield self._rows(places), finished

    def _rows(self, places: Sequence[tuple[str, int]]) -> list[TaskRow]:
        return list(self.held.objects.rows_at(places).values())

    def _delete(self, rows: Sequence[TaskRow], finished: Sequence[KnownObject]) -> None:
        outcome = self.run.effects.delete_tasks(rows, self.root)
        self.deleted += len(outcome.done)
        self.kept += len(outcome.kept)
        self.notes += (kept_note(self.root, row, "is gone") for row in outcome.kept)
        self._kept_keys |= {row.key for row in outcome.kept}
        update = LedgerUpdate(dropped=[*outcome.done, *outcome.absent])
        for known in finished:
            if known.state is State.REMOVED and known.key not in self._kept_keys:
                update.forgotten.append(known.key)
            else:
                update.finished.append(known)
        self.outdated |= self.held.intents.record(update, closing=outcome.intent)
