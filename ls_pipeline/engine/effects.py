"""What a run changes outside: each change is recorded in the ledger before it happens.

The order is always the same: the intent in the ledger, the marks, the effects, the outcome in the
ledger. A run that dies in between leaves the intent open, and the next run settles it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import TasksRefusedError
from ls_pipeline.domain.tasks import META_KEY
from ls_pipeline.resources.ledger.records import Intent, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from ls_pipeline.domain.completions import Completion
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

    def update_tasks(self, tasks: Sequence[NewTask], root: str) -> Outcome:
        """Update the data of tasks, each unless a person has worked on it by then.

        Label Studio can't do both in one step. So each task is read once more after its change:
        if a person has worked on it in between, it gets its old data back.
        """
        rows = tuple(new.row for new in tasks)
        outcome = Outcome(self.begin(Intent(Kind.UPDATE, rows, root, self.revision)))
        for new in tasks:
            row = new.row
            task = self._untouched(row, root, outcome)
            if task is None:
                continue
            try:
                self._update(new, task.origin.token if task.origin else "")
            except TasksRefusedError as error:
                outcome.refused[row] = str(error)
                continue
            now = self.projects.task_of(row, root)
            if now and now.has_human_work:
                old = {name: task.document[name] for name in ("data", "meta")}
                self.app.update_task(row.task_id, old)
                outcome.kept.append(row)
            else:
                outcome.done.append(row)
        return outcome

    def _update(self, new: NewTask, token: str) -> None:
        body = new.body(token)
        self.app.update_task(new.row.task_id, {name: body[name] for name in ("data", "meta")})

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
