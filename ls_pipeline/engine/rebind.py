"""Binds a connection on purpose to a project or target that its ledger does not know.

A run stops if Label Studio or the target is not what the ledger knows. Only a person can say
what that means: whether this installation goes on, and what became of tasks that are missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import IdentityError, ObjectChangedError
from ls_pipeline.domain.target_mark import TargetMark
from ls_pipeline.engine.reconcile import ExistingTasks
from ls_pipeline.resources.ledger.records import LedgerUpdate, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.labeling_app import Mark, Project


class Choice(str, Enum):
    """What a person decides about a connection that does not fit its ledger."""

    TAKE_OVER = "take-over"
    """This installation goes on; another one stops."""
    RELOAD = "reload"
    """Tasks that are missing are loaded again."""
    FORGET = "forget"
    """Tasks that are missing count as deleted by a person."""


@dataclass
class Findings:
    """How a connection's projects and target differ from what its ledger knows."""

    differences: list[str] = field(default_factory=list)
    """In sentences; empty if everything is as expected."""
    is_claimed: bool = False
    """Whether another installation has marked a project or the target."""
    projects: list[Project] = field(default_factory=list)
    """That the connection would be bound to; if it is empty, a new one is created."""
    missing: int = 0
    known: int = 0
    """Of the tasks that the ledger knows, how many do not exist, and how many there are."""
    missing_files: int = 0
    """Completions in the target whose tasks do not exist."""

    @property
    def choices(self) -> list[Choice]:
        """What a person may choose."""
        return [Choice.TAKE_OVER] if self.is_claimed else list(Choice)


def find_differences(run: RunContext) -> Findings:
    """Compare a connection with Label Studio and its target; change nothing."""
    return _Rebinding(run).find()


def rebind(run: RunContext, choice: Choice) -> Findings:
    """Bind a connection to the projects and the target that there are now.

    Its next runs compare all tasks and files with the ledger. Raises ``ValueError`` if the choice
    is not offered. It may be killed and repeated at any time.
    """
    return _Rebinding(run).apply(choice)


class _Rebinding:
    def __init__(self, run: RunContext) -> None:
        self.run, self.held, self.app = run, run.held, run.app
        self.marks: list[Mark] = []
        self.newest = 0
        """The highest generation of any mark."""

    def find(self) -> Findings:
        findings = Findings()
        findings.projects = self._projects(findings)
        ids = [project.id for project in findings.projects]
        self.marks = [mark for mark in self.app.marks() if mark.project_id in ids]
        self._compare_marks(findings)
        if self.run.connection.target:
            self._compare_target(findings)
        missing = list(self._missing(ids))
        findings.missing, findings.known = len(missing), self.held.objects.count_tasks()
        exported = self.held.exports.last_written([row.task_id for row in missing])
        findings.missing_files = sum(each.annotations > 0 for each in exported.values())
        return findings

    def apply(self, choice: Choice) -> Findings:
        findings = self.find()
        if choice not in findings.choices:
            raise ValueError(f"{choice.value} is not offered: {findings.differences}")
        if choice is Choice.RELOAD:
            self._reload([project.id for project in findings.projects])
        found = {project.id for project in findings.projects}
        if not found.issuperset(self.held.projects.ids().values()):
            self.held.projects.forget()
        state = self.held.binding.state()
        generation = 1 + max(self.newest, state.generation)
        self.held.binding.restart(generation)
        for mark in self.marks:
            self.app.remove_mark(mark)
        for project in findings.projects:
            self.app.add_mark(project.id, self.held.ledger_id, self.held.name, generation)
        if self.run.connection.target:
            self._mark_target(generation)
        return findings

    # -- what differs -----------------------------------------------------------------------

    def _projects(self, findings: Findings) -> list[Project]:
        """Return the projects that the ledger knows; if one is gone, those of the title."""
        bound = self.held.projects.bound()
        found = self.app.existing_projects([project.id for project in bound.values()])
        for known in bound.values():
            actual = found.get(known.id)
            if actual is None:
                findings.differences.append(f"Project {known.id} does not exist any more.")
            elif actual.created_at != known.created_at:
                findings.differences.append(
                    f"Project {known.id} was created {actual.created_at}, and the ledger's "
                    f"{known.created_at}: it is another one."
                )
        if bound and not findings.differences:
            overflow = self.run.projects.own_overflow(max(bound))
            return [*found.values(), *overflow.values()]
        titled = self.app.find_project(self.run.connection.project)
        overflow = self.run.projects.own_overflow(1)
        return [titled, *overflow.values()] if titled else []

    def _compare_marks(self, findings: Findings) -> None:
        own = [mark for mark in self.marks if mark.ledger == self.held.ledger_id]
        for mark in self.marks:
            if mark not in own:
                findings.is_claimed = True
                findings.differences.append(
                    f"Project {mark.project_id} belongs to connection {mark.connection!r} of "
                    f"another installation (ledger {mark.ledger[:8]})."
                )
        self.newest = max((mark.generation for mark in self.marks), default=0)
        behind = max((mark.generation for mark in own), default=0)
        confirmed = self.held.binding.state().app_generation
        if behind < confirmed and not findings.differences:
            findings.differences.append(
                f"Label Studio's mark is at generation {behind}, and the ledger at {confirmed}: "
                "Label Studio was restored from a backup, or the mark was removed."
            )

    def _compare_target(self, findings: Findings) -> None:
        try:
            self.run.target_identity.read()
        except IdentityError as error:
            findings.is_claimed = True
            findings.differences.append(error.what)
        generations = self.run.target_identity.mark.generations
        self.newest = max([self.newest, *generations.values()])

    def _missing(self, project_ids: list[int]) -> Iterator[TaskRow]:
        existing = ExistingTasks(self.run, project_ids)
        for page in self.held.objects.all_rows():
            yield from (row for row in page if existing.lacks(row))

    # -- what changes -----------------------------------------------------------------------

    def _reload(self, project_ids: list[int]) -> None:
        """Forget the tasks that are missing, and what was exported of them."""
        missing = list(self._missing(project_ids))
        for start in range(0, len(missing), 1000):
            rows = missing[start : start + 1000]
            reopened = list({row.key for row in rows})
            self.held.intents.record(LedgerUpdate(dropped=rows, reopened=reopened))
            self.held.exports.forget([row.task_id for row in rows])

    def _mark_target(self, generation: int) -> None:
        identity = self.run.target_identity
        mark = TargetMark(self.held.ledger_id, identity.mark.generations)
        if identity.mark.ledger != self.held.ledger_id:
            mark = TargetMark(self.held.ledger_id, {})
        try:
            identity.write(mark.raised(self.held.name, generation))
        except ObjectChangedError:
            raise IdentityError(
                self.held.name, "another installation wrote to the target at this moment."
            ) from None
