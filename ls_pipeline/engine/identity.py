"""Whether Label Studio and the target are those that the ledger knows.

A project is known by its id and the time of its creation. Label Studio and the target each carry a
mark: the ledger's id, and the generation of the connection, which grows with each intent. A run
checks both before it changes anything, and raises them before each intent's effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import (
    IdentityError,
    ObjectChangedError,
    ObjectNotFoundError,
    ProjectNotFoundError,
)
from ls_pipeline.domain.target_mark import LARGEST, TargetMark, mark_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp, Mark, Project
    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.records import BoundProject
    from ls_pipeline.settings.model import Target

MARK_TRIES = 5
"""How often a target's mark is written again if another connection wrote it in between."""


class ProjectIdentity:
    """Checks and marks the projects of a connection that a run holds."""

    def __init__(self, held: HeldConnection, app: LabelingApp) -> None:
        self.held, self.app = held, app
        self._mark: Mark | None = None
        """Of this run, once it has changed something."""

    def check(self) -> dict[int, Project]:
        """Return the projects that the ledger knows, by id, in two requests.

        Raises ``IdentityError`` if Label Studio has others. If the ledger is behind its mark, it
        was restored: then nothing that it knows of tasks and files counts as verified.
        """
        bound = list(self.held.projects.bound().values())
        found = self.app.existing_projects([project.id for project in bound])
        one = bound[0].id if len(bound) == 1 else 0
        self._check(bound, found, self.app.marks(one) if found else [])
        return found

    def check_found(self, found: Mapping[int, Project], marks: Sequence[Mark]) -> None:
        """Check as `check` does, with the projects and marks that Label Studio was read to have."""
        self._check(list(self.held.projects.bound().values()), found, marks)

    def _check(
        self, bound: Sequence[BoundProject], found: Mapping[int, Project], marks: Sequence[Mark]
    ) -> None:
        for project in bound:
            self._check_project(project, found.get(project.id))
        self.check_unclaimed(marks, found)
        for project in bound:
            self._check_mark(project, marks, is_first=project == bound[0])
        if bound:
            self._check_generation(self._own(marks, bound[0].id))

    def claimed(self) -> set[int]:
        """Return the ids of the projects that another installation has marked."""
        return {mark.project_id for mark in self.app.marks() if mark.ledger != self.held.ledger_id}

    def check_unclaimed(self, marks: Iterable[Mark], project_ids: Iterable[int]) -> None:
        """Raise ``IdentityError`` if a project has the mark of another ledger."""
        ids = set(project_ids)
        for mark in marks:
            if mark.project_id in ids and mark.ledger != self.held.ledger_id:
                raise self._claimed(mark)

    def announce(self, generation: int) -> None:
        """Raise the mark of the first project: this run is about to change something.

        The intent has renewed the lease. Each run makes a mark of its own, so that a request that
        arrives late lowers none. Raises ``IdentityError`` if another installation has taken over.
        """
        self.held.check_time()
        if self._mark is None:
            self._mark = self._add_mark(generation)
        else:
            try:
                self._mark = self.app.raise_mark(self._mark, generation)
            except ProjectNotFoundError:
                self.held.renew()  # a newer run removes the marks of older ones
                raise IdentityError(
                    self.held.name, f"the mark of project {self._mark.project_id} was removed."
                ) from None
        self.held.binding.confirm_app(generation, self._mark.project_id)

    def claim(self) -> None:
        """Mark the first project as this connection's, unless it has its mark."""
        first = next(iter(self.held.projects.bound().values()))
        if not first.marked:
            self.held.renew()
            self._mark, _ = self._claim(first.id, self.held.binding.state().generation)
            self.held.projects.set_marked(first.id)

    def _add_mark(self, generation: int) -> Mark:
        """Make this run's mark, and remove those of earlier runs."""
        project_id = next(iter(self.held.projects.ids().values()))
        new, marks = self._claim(project_id, generation)
        for mark in self._own(marks, project_id):
            if mark.generation < generation:
                self.held.renew()
                self.app.remove_mark(mark)
        return new

    def _claim(self, project_id: int, generation: int) -> tuple[Mark, list[Mark]]:
        """Mark a project; of two installations that do so at the same moment, the first has it.

        Returns the mark, and all marks after that.
        """
        new = self.app.add_mark(project_id, self.held.ledger_id, self.held.name, generation)
        marks = self.app.marks(project_id)
        try:
            self.check_unclaimed([mark for mark in marks if mark.id < new.id], [project_id])
        except IdentityError:
            self.app.remove_mark(new)
            raise
        return new, marks

    def _check_project(self, known: BoundProject, found: Project | None) -> None:
        expected = f"Label Studio's project {known.id}, created {known.created_at}"
        if found is None:
            what = f"{expected}, does not exist any more."
            raise self._difference(what)
        if found.created_at != known.created_at:
            what = f"{expected}, is another one by now, created {found.created_at}: {found.url}."
            raise self._difference(what)

    def _check_mark(self, project: BoundProject, marks: Iterable[Mark], *, is_first: bool) -> None:
        """Check a project's mark; claim an overflow project that has none."""
        if self._own(marks, project.id):
            if not project.marked:
                self.held.projects.set_marked(project.id)
        elif project.marked:
            what = (
                f"project {project.id} has lost its mark. Label Studio was restored from a "
                "backup, or a person removed the webhook that holds the mark."
            )
            raise self._difference(what)
        elif not is_first:
            self._claim(project.id, self.held.binding.state().generation)
            self.held.projects.set_marked(project.id)

    def _check_generation(self, marks: Iterable[Mark]) -> None:
        newest = max((mark.generation for mark in marks), default=0)
        state = self.held.binding.state()
        if newest > state.generation:
            self.held.binding.restart(newest)
        elif newest < state.app_generation:
            what = (
                f"Label Studio's mark is at generation {newest}, and the ledger at "
                f"{state.app_generation}. Label Studio was restored from a backup, so that its "
                "tasks and labels may be older than what the ledger knows."
            )
            raise self._difference(what)
        if newest > state.app_generation:  # it was written, though no run recorded that
            self.held.binding.confirm_app(newest)

    def _own(self, marks: Iterable[Mark], project_id: int) -> list[Mark]:
        mine = (project_id, self.held.ledger_id, self.held.name)
        return [mark for mark in marks if (mark.project_id, mark.ledger, mark.connection) == mine]

    def _claimed(self, mark: Mark) -> IdentityError:
        what = (
            f"project {mark.project_id} belongs to connection {mark.connection!r} of another "
            f"installation (ledger {mark.ledger[:8]}, this one is {self.held.ledger_id[:8]})."
        )
        return self._difference(what)

    def _difference(self, what: str) -> IdentityError:
        """Return the error for a difference; raise ``LeaseLostError`` if a newer run made it."""
        self.held.renew()
        return IdentityError(self.held.name, what)


class TargetIdentity:
    """Checks and marks the target of a connection that a run holds."""

    def __init__(self, held: HeldConnection, bucket: Bucket, target: Target) -> None:
        self.held, self.bucket = held, bucket
        self.key = mark_key(target.params.prefix)
        self.mark = TargetMark(held.ledger_id, {})
        """As it was read or written last."""
        self._version = ""

    def check(self) -> None:
        """Raise ``IdentityError`` if another installation writes to the target.

        If the target has an older mark than the ledger knows, or none, its files are not what the
        ledger knows: it was emptied, restored, or is another one.
        """
        self.read()
        generation = self.mark.generations.get(self.held.name, 0)
        state = self.held.binding.state()
        if generation > state.generation:
            self.held.binding.restart(generation)
            return
        is_known = state.target_root == self.bucket.uri(self.key)
        if not is_known or generation < state.target_generation:
            self.held.binding.distrust_files()

    def announce(self, generation: int) -> None:
        """Raise the mark: this run is about to change files."""
        for _ in range(MARK_TRIES):
            try:
                self.write(self.mark.raised(self.held.name, generation))
            except ObjectChangedError:  # by another connection with this target, or a take-over
                self.held.renew()
                self.read()
                continue
            self.held.binding.confirm_target(self.bucket.uri(self.key), generation)
            return
        raise IdentityError(
            self.held.name, f"{self.bucket.uri(self.key)} is written again and again by another."
        )

    def write(self, mark: TargetMark) -> None:
        """Replace the mark. Raises ``ObjectChangedError`` if it is not the one that was read."""
        body, version = mark.as_bytes(), self._version
        stored = self.bucket.put(self.key, body, "application/json", if_version=version)
        self.mark, self._version = mark, stored.version

    def read(self) -> None:
        """Read the mark. Raises ``IdentityError`` if it is another installation's."""
        self._version, self.mark = "", TargetMark(self.held.ledger_id, {})
        page = next(self.bucket.pages(self.key), [])
        if page and page[0].key == self.key:
            self._read_version(page[0])
        uri, ledger = self.bucket.uri(self.key), self.mark.ledger
        if not ledger:
            what = f"{uri} is no mark of ls-pipeline: a person or another program has written it."
            raise IdentityError(self.held.name, what)
        if ledger != self.held.ledger_id:
            what = (
                f"{uri} says that another installation writes there (ledger {ledger[:8]}, this "
                f"one is {self.held.ledger_id[:8]})."
            )
            raise IdentityError(self.held.name, what)

    def _read_version(self, stored: StoredObject) -> None:
        """Read one version of the mark. If it is replaced meanwhile, there counts as none."""
        try:
            body = self.bucket.get(stored.key, stored.version) if stored.size <= LARGEST else b""
        except (ObjectNotFoundError, ObjectChangedError):
            return
        self._version, self.mark = stored.version, TargetMark.parse(body)
