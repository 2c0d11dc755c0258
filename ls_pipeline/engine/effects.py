"""What a run changes outside: each change is recorded in the ledger before it happens.

The order is always the same: the intent in the ledger, the marks, the effects, the outcome in the
ledger. A run that dies in between leaves the intent open, and the next run settles it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import TasksRefusedError
from ls_pipeline.domain.predictions import change_predictions, own_predictions
from ls_pipeline.domain.tasks import META_KEY
from ls_pipeline.resources.ledger.records import Intent, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.predictions import PredictionChange, PredictionRecord
    from ls_pipeline.domain.tasks import Origin
    from ls_pipeline.engine.projects import HeldProjects
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.records import TaskRow

    Announce: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class NewTask:
    """A row on its way to become a task: what the ledger records, what Label Studio gets.

    The body waits as text: built, it takes up to fifty times as much memory.
    """

    row: TaskRow
    text: str

    def body(self, token: str) -> dict[str, Any]:
        """Build the body, whose origin has a token."""
        body: dict[str, Any] = json.loads(self.text)
        body["meta"][META_KEY]["import"] = token
        return body


@dataclass
class Outcome:
    """What became of the tasks of some rows."""

    intent: Intent
    """Still open: the caller closes it, together with what it records."""
    done: list[TaskRow] = field(default_factory=list)
    absent: list[TaskRow] = field(default_factory=list)
    """Their tasks did not exist any more."""
    kept: list[TaskRow] = field(default_factory=list)
    """A person has worked on their tasks: they are as they were."""
    refused: dict[TaskRow, str] = field(default_factory=dict)
    """Why Label Studio refused to change their tasks."""


@dataclass(frozen=True)
class Effects:
    """Changes the tasks of a connection that a run holds. People's work comes first."""

    held: HeldConnection
    app: LabelingApp
    projects: HeldProjects
    revision: int

    def begin(self, intent: Intent, announce_too: Iterable[Announce] = ()) -> Intent:
        """Record an intent and raise the marks; after that, its effects may happen.

        Raises ``LeaseLostError``, and ``IdentityError`` if another installation has taken over.
        """
        begun, generation = self.held.intents.begin(intent)
        for announce in (self.projects.identity.announce, *announce_too):
            announce(generation)
        return begun

    def delete_tasks(self, rows: Sequence[TaskRow], root: str) -> Outcome:
        """Delete the tasks of rows, each unless a person has worked on it by then."""
        outcome = Outcome(self.begin(Intent(Kind.DELETE, tuple(rows), root, self.revision)))
        for row in rows:
            if self._untouched(row, root, outcome):
                self.app.delete_task(row.task_id)
                outcome.done.append(row)
        return outcome

    def update_tasks(
        self, tasks: Sequence[NewTask], root: str, *, adds_predictions: bool = False
    ) -> Outcome:
        """Update the data and predictions of tasks, each unless a person has worked on it by then.

        Label Studio can't do both in one step. So each task is read once more after its change:
        if a person has worked on it in between, it gets its old data back. ``adds_predictions``
        says that tasks that people have worked on get new predictions, if their data is the same.
        """
        rows = tuple(new.row for new in tasks)
        outcome = Outcome(self.begin(Intent(Kind.UPDATE, rows, root, self.revision)))
        for new in tasks:
            task = self.projects.task_of(new.row, root)
            if task is None or task.origin is None:
                outcome.absent.append(new.row)
            elif not task.has_human_work:
                self._update(new, task, task.origin, root, outcome)
            elif adds_predictions and task.origin.content == new.row.content:
                self._add_predictions(new, task, task.origin, outcome)
            else:
                outcome.kept.append(new.row)
        return outcome

    def _update(
        self, new: NewTask, task: Completion, origin: Origin, root: str, outcome: Outcome
    ) -> None:
        """Update a task. While its predictions are replaced, its ``meta`` names no version."""
        row = new.row
        body = new.body(origin.token)
        wanted = body.get("predictions", [])
        change = change_predictions(task.predictions, origin.predictions, wanted)
        done = _meta_of(body, row.version, change.record)
        begun = done if change.is_nothing else _meta_of(body, "", change.begun)
        self.held.renew()
        refusal = ""
        try:
            self.app.update_task(row.task_id, {"data": body["data"], "meta": begun})
        except TasksRefusedError as error:
            outcome.refused[row] = str(error)
            return
        try:
            self._post(row, change)
        except TasksRefusedError as error:
            refusal = str(error)
        now = self.projects.task_of(row, root)
        if now and (refusal or now.has_human_work):
            self._restore(task, now)
        if refusal:
            outcome.refused[row] = refusal
            return
        if now and now.has_human_work:
            outcome.kept.append(row)
            return
        if now and not change.is_nothing:
            # Not those of `change` alone: Label Studio on SQLite may have stored one twice.
            own = own_predictions(now.predictions, change.begun)
            self._delete_predictions(own.superfluous)
            self.app.update_task(row.task_id, {"meta": done})
        outcome.done.append(row)

    def _post(self, row: TaskRow, change: PredictionChange) -> None:
        for body in change.missing.values():
            self.held.renew()
            self.app.add_prediction(row.task_id, body)

    def _delete_predictions(self, ids: Iterable[int]) -> None:
        for prediction_id in ids:
            self.held.renew()
            self.app.delete_prediction(prediction_id)

    def _restore(self, task: Completion, now: Completion) -> None:
        """Restore a task's old data, and delete the predictions that were added to it."""
        before = {prediction.id for prediction in task.predictions}
        added = [each.id for each in now.predictions if each.tag and each.id not in before]
        self.app.update_task(task.task_id, {name: task.document[name] for name in ("data", "meta")})
        self._delete_predictions(added)

    def _add_predictions(
        self, new: NewTask, task: Completion, origin: Origin, outcome: Outcome
    ) -> None:
        """Add what a task lacks of the predictions of its row, and change nothing else."""
        wanted = new.body(origin.token).get("predictions", [])
        change = change_predictions(task.predictions, origin.predictions, wanted)
        try:
            self._post(new.row, change)
        except TasksRefusedError as error:
            outcome.refused[new.row] = str(error)
            return
        (outcome.done if change.missing else outcome.kept).append(new.row)

    def _untouched(self, row: TaskRow, root: str, outcome: Outcome) -> Completion | None:
        """Return a row's task if it may be changed at this moment; else record why not."""
        task = self.projects.task_of(row, root)
        if task is None:
            outcome.absent.append(row)
        elif task.has_human_work:
            outcome.kept.append(row)
        else:
            self.held.renew()
            return task
        return None


def _meta_of(body: dict[str, Any], version: str, record: PredictionRecord) -> dict[str, Any]:
    """Return the ``meta`` of a task's body, with another version and record of predictions."""
    origin = {**body["meta"][META_KEY], "version": version}
    origin.pop("predictions", None)
    if recorded := record.as_meta():
        origin["predictions"] = recorded
    return {**body["meta"], META_KEY: origin}
