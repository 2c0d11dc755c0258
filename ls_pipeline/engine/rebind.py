"""Binds a connection on purpose to projects or a target that its ledger does not know.

A run stops if Label Studio or the target is not what the ledger knows. Only a person can say
what that means: whether this installation goes on, and what became of tasks that are missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import (
    IdentityError,
    ObjectChangedError,
    ProjectNotFoundError,
    RebindError,
)
from ls_pipeline.domain.target_mark import TargetMark
from ls_pipeline.engine.reconcile import to_load_again

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.labeling_app import Mark, Project
    from ls_pipeline.resources.ledger.records import BoundProject, TaskRow


class Choice(str, Enum):
    """What a person decides about a connection that does not fit its ledger."""

    TAKE_OVER = "take-over"
    """This installation goes on, and another one stops. Missing tasks count as deleted."""
    RELOAD = "reload"
    """This installation goes on. Missing tasks are loaded again, and their files stay."""
    FORGET = "forget"
    """This installation goes on. Missing tasks count as deleted by a person."""


@dataclass
class Findings:
    """How a connection's projects and target differ from what its ledger knows."""

    differences: list[str] = field(default_factory=list)
    """Why a run stops, in sentences; empty if nothing stops it."""
    notes: list[str] = field(default_factory=list)
    """What the next run deals with by itself, in sentences."""
    is_claimed: bool = False
    """Whether another installation has marked a project or the target."""
    projects: dict[int, Project] = field(default_factory=dict)
    """By number, those to go on with; if it is empty, the next run creates one."""
    known: int = 0
    """Tasks that the ledger knows."""
    missing: int = 0
    """Those of them that are not in the projects."""
    missing_files: int = 0
    """Completions in the target whose tasks are not in the projects."""
    outdated_files: int = 0
    """Completions in the target with more annotations than their tasks have."""

    @property
    def choices(self) -> list[Choice]:
        """What a person may choose."""
        reload = [Choice.RELOAD] if self.missing or self.missing_files else []
        if self.is_claimed:
            return [Choice.TAKE_OVER, *reload]
        if self.differences:
            return [Choice.RELOAD, Choice.FORGET]
        return [Choice.RELOAD] if self.missing else []

    def agrees_with(self, other: Findings) -> bool:
        """Return whether a person who was shown the one has also seen the other."""
        return self._shown() == other._shown()

    def _shown(self) -> object:
        ids = {number: project.id for number, project in self.projects.items()}
        return self.differences, ids, self.missing, self.missing_files, self.outdated_files


def find_differences(run: RunContext) -> Findings:
    """Compare a connection with Label Studio and its target; change nothing."""
    return _Rebinding(run).find()


def rebind(run: RunContext, choice: Choice, shown: Findings | None = None) -> Findings:
    """Bind a connection to the projects and the target that there are now.

    Its next runs compare all tasks and files with the ledger. Raises ``RebindError`` if the choice
    is not offered, or if what was ``shown`` to a person is no longer so; then nothing was changed.
    It may be killed and repeated at any time.
    """
    return _Rebinding(run).apply(choice, shown)


def check_offered(findings: Findings, choice: Choice, name: str) -> None:
    """Raise ``RebindError`` if a choice is not offered."""
    if choice not in findings.choices:
        offered = " and ".join(f"--{each.value}" for each in findings.choices)
        what = f"--{choice.value} is not offered, only {offered or 'nothing'}."
        raise RebindError(name, what)


class _Rebinding:
    def __init__(self, run: RunContext) -> None:
        self.run, self.held, self.app = run, run.held, run.app
        self.findings = Findings()
        self.newest = 0
        """The highest generation of the connection's own marks."""
        self.existing = _ExistingTasks(self._root())
        self.lost: list[int] = []
        """The tasks of ``missing_files``."""

    def find(self) -> Findings:
        self._compare_projects()
        self._compare_marks()
        if self.run.connection.target:
            self._compare_target()
        if not self.findings.differences:
            self._compare_generation()
        self._count_missing()
        return self.findings

    def apply(self, choice: Choice, shown: Findings | None) -> Findings:
        findings = self.find()
        if shown and not findings.agrees_with(shown):
            raise RebindError(self.run.name, "what was shown has changed in the meantime.")
        check_offered(findings, choice, self.run.name)
        if choice is Choice.RELOAD:
            self._reload()
        if findings.differences:
            self._bind()
        self.held.health.forget_undecided()
        return findings

    # -- what differs -----------------------------------------------------------------------

    def _compare_projects(self) -> None:
        """Find the projects to go on with: by their ids, and those that are gone by titles."""
        projects, bound = self.findings.projects, self.held.projects.bound()
        existing = self.app.existing_projects([project.id for project in bound.values()])
        for number, known in bound.items():
            actual = existing.get(known.id)
            if difference := project_difference(known, actual):
                self.findings.differences.append(difference)
            elif actual:
                projects[number] = actual
        is_complete = bool(bound) and not self.findings.differences
        first = None if is_complete else self.app.find_project(self.run.connection.project)
        overflow = self.run.projects.own_overflow(max(bound) if is_complete else 1)
        ids = {project.id for project in projects.values()}
        for number, project in {**({1: first} if first else {}), **overflow}.items():
            if project.id not in ids:
                projects.setdefault(number, project)
        self.findings.projects = dict(sorted(projects.items()))

    def _compare_marks(self) -> None:
        own, foreign = self._marks()
        for project_id, connection, ledger in sorted({_owner(mark) for mark in foreign}):
            self.findings.is_claimed = True
            self.findings.differences.append(
                f"Project {project_id} belongs to connection {connection!r} of another "
                f"installation (ledger {ledger[:8]}, this one is {self.held.ledger_id[:8]})."
            )
        marked = {mark.project_id for mark in own}
        kept = {project.id for project in self.findings.projects.values()}
        for known in self.held.projects.bound().values():
            if known.marked and known.id in kept and known.id not in marked:
                self.findings.differences.append(
                    f"Project {known.id} has lost its mark: Label Studio was restored from a "
                    "backup, or a person removed the webhook that holds it."
                )
        self.newest = max((mark.generation for mark in own), default=0)
        state = self.held.binding.state()
        if self.newest < state.app_generation and not self.findings.differences:
            self.findings.differences.append(
                f"Label Studio's mark is at generation {self.newest}, and the ledger at "
                f"{state.app_generation}: Label Studio was restored from a backup, so that its "
                "tasks and labels may be older than what the ledger knows."
            )

    def _compare_target(self) -> None:
        identity, state = self.run.target_identity, self.held.binding.state()
        try:
            identity.read()
        except IdentityError as error:
            self.findings.is_claimed = True
            self.findings.differences.append(error.what)
            return
        generation = identity.mark.generations.get(self.held.name, 0)
        is_known = state.target_root == self.run.bucket.uri(identity.key)
        if is_known and generation < state.target_generation:
            self.findings.notes.append(
                "The target's mark is older than the ledger: the target was emptied, or restored "
                "from a backup. The next export compares all of its files."
            )
        self.newest = max(self.newest, generation)

    def _compare_generation(self) -> None:
        if self.newest > self.held.binding.state().generation:
            self.findings.notes.append(
                "The ledger is older than its marks: it was restored from a backup. The next runs "
                "compare all tasks and files with it."
            )

    def _count_missing(self) -> None:
        for project in self.findings.projects.values():
            self.existing.add(self.run, project.id)
        missing = [row.task_id for page in self._missing() for row in page]
        self.findings.known = self.held.objects.count_tasks()
        self.findings.missing = len(missing)
        self._compare_files(set(missing))

    def _compare_files(self, missing: set[int]) -> None:
        for exported in self.held.exports.living().values():
            task_id, labels = exported.task_id, self.existing.labels
            is_missing = task_id in missing or task_id not in labels
            if is_missing and (exported.annotations or exported.is_unfinished):
                self.lost.append(task_id)
            self.findings.outdated_files += (
                not is_missing and exported.annotations > labels[task_id]
            )
        self.findings.missing_files = len(self.lost)

    def _root(self) -> str:
        """Return what the keys of rows are relative to, also if the source was taken away."""
        revisions = (revision.readable for revision in self.held.settings.history())
        sources = (revision.source for revision in revisions if revision)
        return next((source.root for source in sources if source), "")

    def _missing(self) -> Iterator[list[TaskRow]]:
        """Return the rows whose task is missing, in pages."""
        for page in self.held.objects.all_rows():
            if rows := [row for row in page if row.task_id and self.existing.lacks(row)]:
                yield rows

    def _marks(self) -> tuple[list[Mark], list[Mark]]:
        """Return the projects' marks of this connection, and those of other installations."""
        ids = {project.id for project in self.findings.projects.values()}
        marks = [mark for mark in self.app.marks() if mark.project_id in ids]
        foreign = [mark for mark in marks if mark.ledger != self.held.ledger_id]
        own = [mark for mark in marks if mark not in foreign and mark.connection == self.held.name]
        return own, foreign

    # -- what changes -----------------------------------------------------------------------

    def _reload(self) -> None:
        """Forget the tasks that are missing, and leave their files alone: these come first."""
        self.held.exports.leave(self.lost)
        for rows in self._missing():
            self.held.intents.record(to_load_again(rows))

    def _bind(self) -> None:
        """Bind the connection in the ledger, then mark the projects and the target.

        From the first step on, the connection's own runs mark what has no mark yet.
        """
        projects = self.findings.projects
        generation = 1 + max(self.newest, self.held.binding.state().generation)
        self.held.binding.bind(projects, generation)
        for project in projects.values():
            self.held.renew()
            self.app.add_mark(project.id, self.held.ledger_id, self.held.name, generation)
        if projects:
            self.held.binding.confirm_app(generation)
        own, foreign = self._marks()
        for mark in [*foreign, *(mark for mark in own if mark.generation < generation)]:
            self.held.renew()
            self.app.remove_mark(mark)
        if self.run.connection.target:
            self._mark_target(generation)

    def _mark_target(self, generation: int) -> None:
        identity = self.run.target_identity
        is_own = identity.mark.ledger == self.held.ledger_id
        mark = TargetMark(self.held.ledger_id, identity.mark.generations if is_own else {})
        self.held.renew()
        try:
            identity.write(mark.raised(self.held.name, generation))
        except ObjectChangedError:
            raise RebindError(
                self.run.name, f"{self.run.bucket.uri(identity.key)} was written at this moment."
            ) from None


class _ExistingTasks:
    """The tasks of some projects: the row that each came from, and how many labels it has."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.labels: dict[int, int] = {}
        """Finished annotations by task id."""
        self._places: set[tuple[str, int]] = set()

    def add(self, run: RunContext, project_id: int) -> None:
        """Add the tasks of a project. A project that was deleted has none."""
        try:
            for state in run.app.task_states(project_id):
                self.labels[state.id] = state.annotations
                if state.origin and state.origin.connection == run.name:
                    self._places.add((state.origin.uri, state.origin.row))
        except ProjectNotFoundError:
            return

    def lacks(self, row: TaskRow) -> bool:
        """Return whether a row has no task at all."""
        return (self.root + row.key, row.row) not in self._places


def project_difference(known: BoundProject, actual: Project | None) -> str:
    """Return how a project differs from what the ledger knows; empty if it is the same."""
    if actual is None:
        return f"Project {known.id} does not exist any more."
    if actual.created_at != known.created_at:
        return (
            f"Project {known.id} is another one: it was created {actual.created_at}, and the "
            f"ledger's {known.created_at}."
        )
    return ""


def _owner(mark: Mark) -> tuple[int, str, str]:
    return mark.project_id, mark.connection, mark.ledger
