"""Settles what earlier runs began and did not record: one look at the tasks that exist.

Label Studio may carry out a request long after its sender stopped waiting. So an intent without an
answer stays open for two hours, and each run looks for its effects. Only a task that an open intent
has made is ever removed as a double; copies that people make stay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.errors import StoredSettingsError
from ls_pipeline.domain.notes import Notes
from ls_pipeline.domain.predictions import PredictionRecord, own_predictions
from ls_pipeline.resources.ledger.records import (
    OF_TASKS,
    Intent,
    Kind,
    LedgerUpdate,
    TaskRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.tasks import Origin
    from ls_pipeline.engine.context import RunContext

ARRIVAL_SECONDS = 15.0
"""How long an import may still take in Label Studio after its sender was cut off."""

PAUSE = 0.5
"""Seconds between looks within that time."""

PAGE = 1000
"""Rows recorded at once."""

REUSED_IDS = 2000
"""How far below its project's newest id an import is looked for."""


def reconcile_tasks(run: RunContext) -> Reconciler:
    """Settle the open intents of a connection's tasks; return what came of it.

    A ledger that is new or was restored first records the tasks that exist. Raises
    ``ExternalSystemError``.
    """
    reconciler = Reconciler(run)
    if not run.held.binding.state().tasks_verified:
        reconciler.verify()
    reconciler.settle(run.held.intents.open(*OF_TASKS))
    return reconciler


class Reconciler:
    """Compares intents, and a ledger that is new or was restored, with Label Studio's tasks."""

    def __init__(self, run: RunContext) -> None:
        self.run, self.held, self.projects = run, run.held, run.projects
        self.arrived = 0
        """Tasks of earlier imports that are now recorded."""
        self.recovered = 0
        """Tasks that a new or restored ledger did not know."""
        self.removed = 0
        """Tasks that were made twice, and deleted."""
        self.copies = 0
        """Tasks that people copied, with our meta."""
        self.conflicts = Notes()

    @property
    def notes(self) -> Notes:
        """What a person should know, in sentences."""
        notes = Notes()
        if self.recovered:
            notes.append(f"{self.recovered} tasks of an earlier ledger were recovered.")
        if self.removed:
            notes.append(
                f"{self.removed} tasks had arrived twice after a reply was lost; one of each two "
                "was deleted."
            )
        if self.copies:
            notes.append(
                f"{self.copies} tasks are copies that people made of tasks; they were left as "
                "they are."
            )
        notes += self.conflicts
        return notes

    def settle(self, intents: Sequence[Intent]) -> None:
        """Settle open intents, the oldest first."""
        if not intents:
            return
        look = self._look_until_arrived([each for each in intents if each.kind is Kind.IMPORT])
        for intent in intents:
            if intent.kind is Kind.IMPORT:
                self._settle_import(intent, look.made_by(intent))
                self.copies += len(look.copies_of(intent))
            elif intent.kind is Kind.UPDATE:
                self._settle_update(intent)
            else:
                self._settle_delete(intent)

    def look_for(self, intent: Intent) -> tuple[list[TaskRow], list[TaskRow]]:
        """Return the rows of an import that are tasks by now, and the tasks stored once more."""
        look = _Look(self.run, [intent])
        made = [replace(row, task_id=task_id) for row, task_id in look.made_by(intent).items()]
        return made, look.copies_of(intent)

    # -- imports ----------------------------------------------------------------------------

    def _look_until_arrived(self, imports: Sequence[Intent]) -> _Look:
        """Look for imports; wait for those that were cut off a moment ago."""
        look = _Look(self.run, imports)
        new = [intent for intent in imports if not intent.looks]
        until = max((intent.began_at for intent in new), default=0.0) + ARRIVAL_SECONDS
        for _ in range(int(ARRIVAL_SECONDS / PAUSE)):  # whatever the clock does
            if self.held.now() >= until or all(look.made_by(intent) for intent in new):
                break
            self.held.database.sleep(PAUSE)
            look = _Look(self.run, imports)
        return look

    def _settle_import(self, intent: Intent, made: Mapping[TaskRow, int]) -> None:
        """Record the tasks that arrived; remove those that a later run has done without."""
        if not made:
            self.held.intents.keep_open(intent)
            return
        known = self._known(intent)
        objects = self.held.objects.known_at(list({row.key for row in made}))
        arrived = []
        for new, task_id in made.items():
            row, before = replace(new, task_id=task_id), known.get((new.key, new.row))
            is_open = row.key not in objects or not objects[row.key].is_finished
            if before is None and not is_open:
                self._remove_expired(intent, row)
            elif before and before.task_id != task_id and self._are_doubles(intent, row, before):
                self._remove_double(intent, row, before)
            elif before is None or is_open:
                arrived.append(row)
        # All or none: it can't arrive again.
        self.held.intents.record(LedgerUpdate(loaded=arrived), closing=intent)
        self.arrived += len(arrived)

    def _are_doubles(self, intent: Intent, row: TaskRow, known: TaskRow) -> bool:
        """Return whether two tasks of a row must not both exist."""
        return row.version == known.version or self._has_one_task_per_row(intent.revision)

    def _has_one_task_per_row(self, revision: int) -> bool:
        try:
            source = self.held.settings.at(revision).connection.source
        except (LookupError, StoredSettingsError):  # a restored ledger may lack them
            source = self.run.connection.source
        return source is None or source.params.one_task_per_row

    def _remove_expired(self, intent: Intent, row: TaskRow) -> None:
        """Remove the late task of a row that its object no longer has."""
        outcome = self.run.effects.delete_tasks([row], intent.root)
        self.removed += len(outcome.done)
        update = LedgerUpdate(loaded=outcome.kept)
        self.held.intents.record(update, closing=outcome.intent)

    def _remove_double(self, intent: Intent, late: TaskRow, known: TaskRow) -> None:
        """Remove one of two tasks of a row: the one that no person has worked on."""
        pairs = self.projects.tasks_of([late, known], intent.root)
        tasks = {row.task_id: task for row, task in pairs if task}
        worked_on = [id_ for id_, task in tasks.items() if task.has_human_work]
        if late.task_id not in tasks:
            return
        if len(worked_on) > 1:
            self._report_conflict(intent, late, known)
            return
        # Also if a person has deleted the other one: then this row is not wanted.
        removed, kept = (known, late) if late.task_id in worked_on else (late, known)
        outcome = self.run.effects.delete_tasks([removed], intent.root)
        self.removed += len(outcome.done)
        self.held.intents.record(LedgerUpdate(loaded=[kept]), closing=outcome.intent)
        if outcome.kept:
            self._report_conflict(intent, late, known)

    def _report_conflict(self, intent: Intent, late: TaskRow, known: TaskRow) -> None:
        self.conflicts.append(
            f"{intent.root}{late.key} has two tasks, {late.task_id} and {known.task_id}, and "
            "people have worked on both; delete the one that you don't want."
        )

    # -- updates and deletions --------------------------------------------------------------

    def _settle_update(self, intent: Intent) -> None:
        """Record what each task holds: the run may have been cut off anywhere among them.

        A request that is still on its way may hit a new task, as for deletions. Predictions that
        landed late are deleted. A task that lacks some is updated once more.
        """
        known, landed, strays, is_open = self._known(intent), [], [], False
        tasks = self.projects.tasks_of(intent.rows, intent.root)
        for row, task in tasks:
            if task is None or task.origin is None:
                is_open = True
                continue
            before = known.get((row.key, row.row))
            is_unfinished = not task.origin.version
            own = own_predictions(task.predictions, task.origin.predictions)
            is_open |= own.may_change or task.origin.version != row.version
            if before is None or before.task_id != row.task_id:
                if is_unfinished or task.origin.version == row.version:
                    strays.append(row)
            elif not task.has_human_work and (is_unfinished or (own.may_change and own.missing)):
                landed.append(replace(before, version="", digest=""))
            else:
                self._delete_late_predictions(task)
                is_new = not (task.has_human_work and intent.looks)
                has_landed = is_unfinished or task.origin.version == row.version
                if has_landed and is_new and before.digest != row.digest:
                    landed.append(row)
        if landed:
            reopened = list({row.key for row in landed})
            self.held.intents.record(LedgerUpdate(loaded=landed, reopened=reopened))
        self._remove_strays(strays, intent.root)
        others = [row.task_id for row, task in tasks if task is None]
        for other in self.projects.completions(others) if others else ():
            self._delete_late_predictions(other)
        if is_open:
            self.held.intents.keep_open(intent)
        else:
            self.held.intents.close(intent)

    def _delete_late_predictions(self, task: Completion) -> None:
        """Delete what a request added twice, after another version came, or to another task."""
        record = task.origin.predictions if task.origin else PredictionRecord()
        own, source = own_predictions(task.predictions, record), self.run.connection.source
        late = own.superfluous
        if task.has_human_work and task.origin:
            adds = source is not None and source.params.predictions_on_labeled == "add"
            late = own.repeated if adds or not task.origin.version else late
        for prediction_id in late:
            self.held.renew()
            self.run.app.delete_prediction(prediction_id)

    def _remove_strays(self, rows: Sequence[TaskRow], root: str) -> None:
        """Delete tasks of other rows that became these by an update that landed late."""
        others = {row.task_id for row in self.held.objects.rows_with([row.task_id for row in rows])}
        if overwritten := [row for row in rows if row.task_id in others]:
            # The tasks of those rows count as deleted then, and are loaded again.
            self._settle_delete(self.run.effects.delete_tasks(overwritten, root).intent)

    def _settle_delete(self, intent: Intent) -> None:
        """Finish deletions that were cut off; load again what a late request deleted.

        A request that is still on its way may hit a new task: Label Studio on SQLite reuses ids.
        So a row's task with such an id counts as deleted by us if it is gone, or if the id belongs
        to another task by now.
        """
        if not intent.looks:
            rows = [row for row, task in self.projects.tasks_of(intent.rows, intent.root) if task]
            if rows:
                outcome = self.run.effects.delete_tasks(rows, intent.root)
                self.held.intents.close(outcome.intent)
        gone = self.held.objects.rows_with([row.task_id for row in intent.rows])
        for root in {intent.root, self.run.bucket.uri()}:
            gone = [row for row, task in self.projects.tasks_of(gone, root) if task is None]
        if gone:
            self.held.intents.record(to_load_again(gone))
        self.held.intents.keep_open(intent)

    def _known(self, intent: Intent) -> dict[tuple[str, int], TaskRow]:
        """Return an intent's rows that have tasks in the ledger, by key and row."""
        rows = self.held.objects.rows_at((row.key, row.row) for row in intent.rows)
        return {place: row for place, row in rows.items() if row.task_id}

    # -- a ledger that is new, or was restored ----------------------------------------------

    def verify(self) -> None:
        """Record the connection's tasks that exist, as they are."""
        self.projects.recover_overflow()
        occupied = [project.id for project in self.projects.found.values() if project.tasks]
        existing = ExistingTasks(self.run, occupied)
        for page in self.held.objects.all_rows():
            self._record(list(existing.corrections(page)))
        unknown = existing.unknown()
        for batch in batches(unknown, PAGE):
            self._record(batch)
        self.recovered += len(unknown)
        self.held.binding.verify_tasks()

    def _record(self, rows: Sequence[TaskRow]) -> None:
        if rows:
            reopened = list({row.key for row in rows})
            self.held.intents.record(LedgerUpdate(loaded=list(rows), reopened=reopened))


class _Look:
    """The tasks that imports have made by now, found by their tokens."""

    def __init__(self, run: RunContext, imports: Sequence[Intent]) -> None:
        self._ids: dict[str, dict[tuple[str, int], list[int]]] = {
            intent.token: defaultdict(list) for intent in imports
        }
        above: dict[int, int] = {}
        for intent in imports:
            first = above.get(intent.project_id, intent.above)
            above[intent.project_id] = min(first, intent.above)
        for project_id, newest in above.items():
            # Lower, too: if the newest tasks were deleted since, SQLite has reused their ids.
            task_id = max(newest - REUSED_IDS, 0)
            for found, origin in run.projects.origins_above(project_id, task_id):
                if origin.token in self._ids:
                    self._ids[origin.token][origin.uri, origin.row].append(found)

    def made_by(self, intent: Intent) -> dict[TaskRow, int]:
        """Return the rows of an import that became tasks, with the tasks' ids.

        All of them, if any did. Ids are in the order of the rows, so that those of tasks that a
        person has deleted by now are known, too. A copy has a higher id than its original.
        """
        found = self._ids[intent.token]
        places = [(intent.root + row.key, row.row) for row in intent.rows]
        firsts = [min(found[place]) - n for n, place in enumerate(places) if found.get(place)]
        if not firsts:
            return {}
        first = min(firsts)
        return {
            row: min(found.get(place, [first + n]))
            for n, (row, place) in enumerate(zip(intent.rows, places, strict=True))
        }

    def copies_of(self, intent: Intent) -> list[TaskRow]:
        """Return the further tasks with an import's token, by row."""
        found = self._ids[intent.token]
        return [
            replace(row, task_id=task_id)
            for row in intent.rows
            for task_id in sorted(found.get((intent.root + row.key, row.row), ()))[1:]
        ]


def to_load_again(rows: Iterable[TaskRow]) -> LedgerUpdate:
    """Return the update by which rows, whose tasks are gone, become tasks again."""
    loaded = [replace(row, task_id=0) for row in rows]
    return LedgerUpdate(loaded=loaded, reopened=list({row.key for row in loaded}))


def _row_of(key: str, origin: Origin, task_id: int) -> TaskRow:
    """Return a task's row. Its position is not known; most rows never move."""
    identity = origin.content, origin.row_key
    return TaskRow(key, origin.row, origin.version, "", task_id, origin.row, *identity)


class ExistingTasks:
    """All tasks of a connection in some projects, by the row that each came from."""

    def __init__(self, run: RunContext, project_ids: Iterable[int]) -> None:
        source = run.connection.source
        root = source.root if source else ""
        self.has_several = bool(source and not source.params.one_task_per_row)
        self._by_row: dict[tuple[str, int], dict[str, TaskRow]] = defaultdict(dict)
        for project_id in project_ids:
            for task_id, origin in run.projects.origins_above(project_id, 0):
                if origin.uri.startswith(root):
                    key = origin.uri[len(root) :]
                    row = _row_of(key, origin, task_id)
                    # The first with a token is the original, any other a copy.
                    self._by_row[key, origin.row].setdefault(origin.token, row)

    def corrections(self, rows: Iterable[TaskRow]) -> Iterator[TaskRow]:
        """Return the rows whose task is another than the ledger knows, or has another version.

        A row without any task stays as it is: a person has deleted its task.
        """
        for known in rows:
            existing = list(self._by_row.pop((known.key, known.row), {}).values())
            same = [row for row in existing if row.task_id == known.task_id]
            newest = max(existing, key=lambda row: row.task_id, default=known)
            actual = newest if self.has_several or not same else same[0]
            if (actual.task_id, actual.version) != (known.task_id, known.version):
                yield actual

    def unknown(self) -> list[TaskRow]:
        """Return the rows that `corrections` was not asked about, each with its newest task."""
        rows = (tasks.values() for tasks in self._by_row.values())
        return [max(tasks, key=lambda row: row.task_id) for tasks in rows]
