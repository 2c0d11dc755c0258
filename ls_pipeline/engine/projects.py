"""The Label Studio projects of a connection: the first, and the overflow projects behind it."""

from __future__ import annotations

import re
from functools import reduce
from itertools import count
from operator import or_
from typing import TYPE_CHECKING

from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.errors import InvalidVariableError, LabelStudioError, ProjectNotFoundError
from ls_pipeline.engine.identity import ProjectIdentity
from ls_pipeline.resources.labeling_app import StorageLocation
from ls_pipeline.settings.model import TITLE_LENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ls_pipeline.domain.completions import Completion, TaskState
    from ls_pipeline.domain.tasks import Origin
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp, Project
    from ls_pipeline.resources.ledger.connection import ConnectionLedger, HeldConnection
    from ls_pipeline.resources.ledger.records import TaskRow
    from ls_pipeline.settings.model import Connection, Source

_NUMBERED = re.compile(r".* \((\d+)\)", re.DOTALL)
_NUMBERED_ROOM = len(" (999999)")


PAGE_TASKS = 250
"""Completions read at once, if they are small."""

PAGE_BYTES = 5 * 2**20
"""Bytes of completions read at once; in memory, they may take ten times as much.

An export has three pages in memory: it writes one, records the intent of one, and reads one.
"""

FIRST_PAGE_TASKS = 50
"""Completions read at once while their size is unknown."""

PAGE_GROWTH = 4
"""How many times as many completions the next page may have."""


def next_page_tasks(tasks: int, size: int) -> int:
    """Return how many tasks to read next, after a page of that many tasks and bytes."""
    fitting = tasks * PAGE_BYTES // max(size, 1)
    return max(1, min(PAGE_TASKS, PAGE_GROWTH * tasks, fitting))


class Projects:
    """A connection's projects, read as one; new tasks go to the newest.

    The ledger knows which they are, and is asked each time: a run that was overtaken has to see
    the tasks that the newer run put into another project.
    """

    def __init__(self, ledger: ConnectionLedger, app: LabelingApp) -> None:
        self.ledger, self.app = ledger, app
        self._found_last = 0
        self._page_tasks = FIRST_PAGE_TASKS

    @property
    def ids(self) -> list[int]:
        """The projects' ids, the newest last; empty before the first run."""
        return list(self.ledger.projects.ids().values())

    def all(self) -> list[Project]:
        """Return the projects as they are now, the newest last, without those that are gone."""
        found = self.app.existing_projects(self.ids)
        return [found[project_id] for project_id in self.ids if project_id in found]

    def task_states(self, since: str = "") -> Iterator[TaskState]:
        """Return the tasks as ``LabelingApp.task_states`` does, project by project."""
        for project_id in self.ids:
            yield from self.app.task_states(project_id, since)

    def uncounted_tasks(self, since: str = "") -> list[int]:
        """Return tasks as ``LabelingApp.uncounted_tasks`` does, of all projects."""
        return [task for project in self.ids for task in self.app.uncounted_tasks(project, since)]

    def recent_changes(self, since: str) -> RecentChanges:
        """Return what ``LabelingApp.recent_changes`` does, of all projects."""
        changes = (self.app.recent_changes(project_id, since) for project_id in self.ids)
        return reduce(or_, changes, RecentChanges(since))

    def completions(self, task_ids: Sequence[int]) -> list[Completion]:
        """Read tasks as ``LabelingApp.completions`` does, whichever project each is in."""
        missing, completions = list(task_ids), []
        for project_id in self._likely_first():
            page = list(self.app.completions(project_id, missing))
            if page:
                self._found_last = project_id
                completions += page
                read = {completion.task_id for completion in page}
                missing = [task_id for task_id in missing if task_id not in read]
            if not missing:
                break
        return sorted(completions, key=lambda completion: completion.task_id)

    def pages(self, task_ids: Sequence[int]) -> Iterator[list[Completion]]:
        """Read tasks as `completions` does, in pages of about ``PAGE_BYTES`` at most.

        How many tasks a page has follows from the sizes of those before.
        """
        start = 0
        while start < len(task_ids):
            count = self._page_tasks
            page = self.completions(task_ids[start : start + count])
            size = sum(completion.size for completion in page)
            self._page_tasks = next_page_tasks(count, size)
            start += count
            yield page
            del page  # before the next is read

    def tasks_of(
        self, rows: Sequence[TaskRow], root: str
    ) -> list[tuple[TaskRow, Completion | None]]:
        """Read the tasks of rows below a root, each with its row; None if the task was deleted.

        Label Studio on SQLite uses the id of its newest task again once that is deleted. So the id
        may belong to another row's task by now, or to one that a person made.
        """
        completions = self.completions([row.task_id for row in rows])
        tasks = {completion.task_id: completion for completion in completions}
        return [(row, self._if_own(row, root, tasks.get(row.task_id))) for row in rows]

    def task_of(self, row: TaskRow, root: str) -> Completion | None:
        """Read the task of a row as `tasks_of` does."""
        ((_, task),) = self.tasks_of([row], root)
        return task

    def _if_own(self, row: TaskRow, root: str, task: Completion | None) -> Completion | None:
        """Return a task if it is that of a row of ours, and in one of the projects."""
        origin = task.origin if task else None
        place = origin and (origin.connection, origin.uri, origin.row)
        return task if place == (self.ledger.name, root + row.key, row.row) else None

    def origins_above(self, project_id: int, task_id: int) -> Iterator[tuple[int, Origin]]:
        """Return (id, origin) of the connection's own tasks above an id.

        A deleted project has none.
        """
        try:
            for number, origin in self.app.task_origins_above(project_id, task_id):
                if origin.connection == self.ledger.name:
                    yield number, origin
        except ProjectNotFoundError:
            return

    def count_annotated(self) -> int:
        """Count as ``LabelingApp.count_annotated`` does, in all projects."""
        return sum(self.app.count_annotated(project_id) for project_id in self.ids)

    def count_annotations(self) -> int:
        """Count as ``LabelingApp.count_annotations`` does, in all projects."""
        return sum(self.app.count_annotations(self.ids).values())

    def _likely_first(self) -> list[int]:
        """Return the ids, first the project of the last task read: callers go almost by id."""
        return sorted(self.ids, key=lambda project_id: project_id != self._found_last)


class HeldProjects(Projects):
    """The projects of a connection that a run holds, which may find and create them."""

    def __init__(self, held: HeldConnection, app: LabelingApp, connection: Connection) -> None:
        super().__init__(held, app)
        self.held, self.connection = held, connection
        self.identity = ProjectIdentity(held, app)
        self.found: dict[int, Project] = {}
        """By id, as they were when the run began."""
        self._overflow_is_known = False
        """Whether this run has looked for overflow projects with the connection's tasks."""

    @property
    def newest(self) -> Project:
        """The project that new tasks go to; a newer run may have added one since."""
        return next(self.found[id_] for id_ in reversed(self.ids) if id_ in self.found)

    def find(self) -> None:
        """Find the connection's projects, and check that they are those that the ledger knows.

        If the ledger knows none, they are found by their titles, and the first is created if it
        is absent. An overflow project is the connection's if its tasks are in it. Once found,
        projects are known by their ids: they may be renamed in Label Studio.

        A project that this run has created gets its mark with the first intent, or by `claim`.

        Raises ``IdentityError``. Nothing was changed then, but for a first project.
        """
        if self.held.projects.ids():
            self.found = self.identity.check()
        else:
            self._find_by_titles()
        if not any(project.is_new for project in self.found.values()):
            self.claim()

    def claim(self) -> None:
        """Mark the first project as the connection's, unless it has its mark."""
        self.identity.claim()

    def _find_by_titles(self) -> None:
        title, listed = self.connection.project, list(self._with_prefix())
        existing = next((project for project in listed if project.title == title), None)
        first = existing or self.app.create_project(title, self.connection.label_config)
        own = {1: first, **self._own_among(self._overflow_among(listed), 1)}
        # What was created just now can't have a mark of an earlier moment.
        is_all_new = all(project.is_new for project in own.values())
        marks = [] if is_all_new else self.app.marks()
        self.identity.check_unclaimed(marks, [first.id])
        self.held.projects.add(own)
        self._overflow_is_known = True
        self.found = {project.id: project for project in own.values()}
        self.identity.check_found(self.found, marks)

    def register_storages(
        self, bucket: Bucket, source: Source, project_ids: Sequence[int]
    ) -> list[str]:
        """Let annotators open a source's objects, and those of its media buckets, in some projects.

        Return what prevents it. Raises ``LabelStudioError`` if Label Studio can't be reached.
        """
        parts = [source, *source.media]
        locations = [
            # Without a region, Label Studio takes us-east-1, whatever its environment says.
            StorageLocation(
                part.root.partition(":")[0],
                part.path,
                part.params.endpoint_url,
                part.params.region_name or (bucket.region if part.cloud == source.cloud else ""),
            )
            for part in parts
        ]
        return [note for each in locations for note in self._register_storage(each, project_ids)]

    def _register_storage(self, location: StorageLocation, project_ids: Sequence[int]) -> list[str]:
        try:
            for project_id in project_ids:
                is_new = project_id in self.found and self.found[project_id].is_new
                if is_new:
                    self.held.renew()  # only a newer run can have registered one
                self.app.register_storage(project_id, location, is_new=is_new)
        except (InvalidVariableError, LabelStudioError) as error:
            if error.transient:
                raise
            return [str(error)]
        return []

    def recover_overflow(self) -> None:
        """Record overflow projects with tasks of the connection that an old ledger misses."""
        if self._overflow_is_known:
            return
        if own := self.own_overflow(max(self.held.projects.ids())):
            self.held.projects.add(own)
            self.found = self.identity.check()

    def own_overflow(self, after: int) -> dict[int, Project]:
        """Return the overflow projects behind number ``after`` that have our tasks, by number."""
        return self._own_among(self._overflow(), after)

    def _own_among(self, overflow: Mapping[int, Project], after: int) -> dict[int, Project]:
        return {
            number: project
            for number, project in sorted(overflow.items())
            if number > after and self._has_own_tasks(project)
        }

    def begin_overflow(self) -> Project:
        """Return the next overflow project, set up like the newest; new tasks go there from now on.

        If a run created it and was killed before the ledger knew, it is used. If a person has a
        project of that title, the next number is.
        """
        known = self.held.projects.ids()
        newest = self.app.project(list(known.values())[-1])
        existing, claimed = self._overflow(), self.identity.claimed()
        number = next(
            number
            for number in count(max(known) + 1)
            if number not in existing
            or (existing[number].id not in claimed and self._is_usable(existing[number], newest))
        )
        title = self.connection.title(number)
        project = existing.get(number) or self.app.create_project_like(newest.id, title)
        self.held.projects.add({number: project})
        self.found = self.identity.check()
        return project

    def _overflow(self) -> dict[int, Project]:
        """Return the projects with an overflow project's title, the oldest of each, by number."""
        return self._overflow_among(self._with_prefix())

    def _with_prefix(self) -> Iterator[Project]:
        """List the projects that may have the title of the first or of an overflow project."""
        prefix = self.connection.project[: TITLE_LENGTHS[-1] - _NUMBERED_ROOM]
        return self.app.projects_with_prefix(prefix)

    def _overflow_among(self, listed: Iterable[Project]) -> dict[int, Project]:
        projects: dict[int, Project] = {}
        for project in listed:
            match = _NUMBERED.fullmatch(project.title)
            number = int(match[1]) if match else 0
            if number > 1 and project.title == self.connection.title(number):
                projects.setdefault(number, project)
        return projects

    def _is_usable(self, project: Project, newest: Project) -> bool:
        """Return whether a project can only be an overflow project of this connection."""
        if project.id in self.ids:
            return False
        is_as_created = not project.tasks and project.label_config == newest.label_config
        return is_as_created or self._has_own_tasks(project)

    def _has_own_tasks(self, project: Project) -> bool:
        return any(True for _ in self.origins_above(project.id, 0))
