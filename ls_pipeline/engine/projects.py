"""The Label Studio projects of a connection: one, and those that go on where it is full."""

from __future__ import annotations

import re
from functools import reduce
from itertools import count
from operator import or_
from typing import TYPE_CHECKING

from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.errors import InvalidVariableError, LabelStudioError, ProjectNotFoundError
from ls_pipeline.resources.labeling_app import StorageLocation
from ls_pipeline.settings.model import TITLE_LENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.domain.completions import Completion, TaskState
    from ls_pipeline.domain.tasks import Origin
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp, Project
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.records import LoadedRow
    from ls_pipeline.settings.model import Connection, SourceParams

_NUMBERED = re.compile(r".* \((\d+)\)", re.DOTALL)
_NUMBERED_ROOM = len(" (999999)")


class Projects:
    """A connection's projects, read as one; new tasks go to the newest.

    Which they are the ledger knows, and is asked each time: a run that was overtaken has to see
    the tasks that the newer one put into a further project.
    """

    def __init__(self, account: Account, app: LabelingApp) -> None:
        self.account, self.app = account, app
        self._found_last = 0

    @property
    def ids(self) -> list[int]:
        """Give their ids, the newest last; empty before the first pass."""
        return list(self.account.projects().values())

    def all(self) -> list[Project]:
        """Give them as they are now, the newest last. Raises ``ProjectNotFoundError``."""
        return [self.app.project(number) for number in self.ids]

    def task_states(self, since: str = "") -> Iterator[TaskState]:
        """List the tasks as ``LabelingApp.task_states`` does, project by project."""
        for number in self.ids:
            yield from self.app.task_states(number, since)

    def uncounted_tasks(self, since: str = "") -> list[int]:
        """List tasks as ``LabelingApp.uncounted_tasks`` does, in all of them."""
        return [one for number in self.ids for one in self.app.uncounted_tasks(number, since)]

    def recent_changes(self, since: str) -> RecentChanges:
        """Tell of recent tasks as ``LabelingApp.recent_changes`` does, in all of them."""
        found = (self.app.recent_changes(number, since) for number in self.ids)
        return reduce(or_, found, RecentChanges(since))

    def completions(self, task_ids: Sequence[int]) -> list[Completion]:
        """Read tasks as ``LabelingApp.completions`` does, whichever project each is in."""
        missing, found = list(task_ids), []
        for number in self._likely_first():
            here = list(self.app.completions(number, missing))
            if here:
                self._found_last = number
                found += here
                gone = {one.task_id for one in here}
                missing = [one for one in missing if one not in gone]
            if not missing:
                break
        return sorted(found, key=lambda one: one.task_id)

    def tasks_of(
        self, rows: Sequence[LoadedRow], bucket: Bucket
    ) -> list[tuple[LoadedRow, Completion | None]]:
        """Read the tasks of a bucket's rows, each with its row; None for one that was deleted.

        Label Studio on SQLite gives the id of its newest task again once that is deleted, so that
        another row's task may have it by now, or one that a person made.
        """
        there = {one.task_id: one for one in self.completions([row.task_id for row in rows])}
        found = []
        for row in rows:
            task = there.get(row.task_id)
            whose = task.origin if task else None
            place = whose and (whose.connection, whose.uri, whose.row)
            is_its = place == (self.account.name, bucket.uri(row.key), row.row)
            found.append((row, task if is_its else None))
        return found

    def _likely_first(self) -> list[int]:
        """List the ids, first where the last task was found: callers go by id, or nearly so."""
        return sorted(self.ids, key=lambda number: number != self._found_last)

    def count_annotated(self) -> int:
        """Count as ``LabelingApp.count_annotated`` does, in all of them."""
        return sum(self.app.count_annotated(number) for number in self.ids)

    def count_annotations(self) -> int:
        """Count as ``LabelingApp.count_annotations`` does, in all of them."""
        return sum(self.app.count_annotations(self.ids).values())

    def register_storage(
        self, bucket: Bucket, params: SourceParams, project_ids: Sequence[int]
    ) -> list[str]:
        """Let annotators open a bucket's objects in some projects; give what is in the way.

        Raises ``LabelStudioError`` where it is not Label Studio that refuses.
        """
        # Label Studio takes us-east-1 where it is told none, whatever its environment says.
        region = params.region_name or bucket.region
        location = StorageLocation(bucket.scheme, bucket.name, params.endpoint_url, region)
        try:
            for number in project_ids:
                self.app.register_storage(number, location)
        except (InvalidVariableError, LabelStudioError) as error:
            if error.transient:
                raise
            return [str(error)]
        return []

    # -- which they are ---------------------------------------------------------------------

    def begin_next(self, lease: Lease, connection: Connection) -> Project:
        """Give a further project, made as the newest is set up now, and make it the newest.

        One that a pass made and was killed before the ledger knew of it is taken up; one of
        that title that is somebody else's is passed over for the next number.
        """
        known = self.account.projects()
        newest = self.app.project(list(known.values())[-1])
        there = self._further(connection)
        number = next(
            number
            for number in count(max(known) + 1)
            if number not in there or self._is_ours(there[number], newest)
        )
        project = self.app.find_or_create_project_like(newest.id, connection.title(number))
        self.account.set_projects(lease, {number: project.id})
        return project

    def _is_ours(self, project: Project, newest: Project) -> bool:
        """Tell whether a project can only be one that goes on where the newest is full."""
        if project.id in self.ids:
            return False
        as_made = not project.tasks and project.label_config == newest.label_config
        return as_made or self._has_ours(project)

    def _has_ours(self, project: Project) -> bool:
        return any(True for _ in ours_above(self.app, self.account, project.id, 0))

    def _further(self, connection: Connection) -> dict[int, Project]:
        """Find the projects with a title that a further one gets, the oldest of each, by number."""
        found: dict[int, Project] = {}
        beginning = connection.project[: TITLE_LENGTHS[-1] - _NUMBERED_ROOM]
        for project in self.app.projects_with_prefix(beginning):
            match = _NUMBERED.fullmatch(project.title)
            number = int(match[1]) if match else 0
            if number > 1 and project.title == connection.title(number):
                found.setdefault(number, project)
        return found

    def take_up_further(self, lease: Lease, connection: Connection) -> None:
        """Take up further projects with tasks of the connection, which an old ledger misses."""
        newest = max(self.account.projects())
        further = sorted(self._further(connection).items())
        ours = {n: one.id for n, one in further if n > newest and self._has_ours(one)}
        if ours:
            self.account.set_projects(lease, ours)

    def find(self, lease: Lease, connection: Connection) -> None:
        """Find the projects by their titles, where the ledger knows none; make the first if absent.

        Further ones are the connection's where its tasks are in them.
        """
        if self.account.projects():
            return
        first = self.app.find_or_create_project(connection.project, connection.label_config)
        further = self._further(connection)
        ours = {n: one.id for n, one in sorted(further.items()) if self._has_ours(one)}
        self.account.set_projects(lease, {1: first.id, **ours})


def projects_of(
    account: Account, lease: Lease, connection: Connection, app: LabelingApp
) -> Projects:
    """Give the connection's Label Studio projects, making the first if there was none so far.

    Once found they are known by their ids: they may be renamed in Label Studio.
    """
    projects = Projects(account, app)
    projects.find(lease, connection)
    return projects


def ours_above(
    app: LabelingApp, account: Account, project_id: int, above: int
) -> Iterator[tuple[int, Origin]]:
    """List (id, origin) of a connection's own tasks above an id; none of a deleted project."""
    try:
        for number, origin in app.task_origins_above(project_id, above):
            if origin.connection == account.name:
                yield number, origin
    except ProjectNotFoundError:
        return
