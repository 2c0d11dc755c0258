"""Where annotators work, as all but its implementations know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState
    from ls_pipeline.domain.tasks import Origin


SECRET_HEADER = "X-LS-Pipeline-Secret"  # noqa: S105 - a name
"""In which Label Studio shows that it is Label Studio that calls."""


@dataclass(frozen=True, slots=True)
class Project:
    """One project; ``tasks`` is the server's own count."""

    id: int
    title: str
    label_config: str
    tasks: int
    url: str


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Where Label Studio finds a bucket; ``scheme`` is ``s3`` or ``gs``."""

    scheme: str
    bucket: str
    endpoint_url: str = ""
    region: str = ""

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.bucket}"


class LabelingApp(Protocol):
    """Where annotators work.

    Every method may raise ``LabelStudioAccessError``, ``LabelStudioUnavailableError`` (no
    answer, or a server error: whether a write was done is unknown) or
    ``ProjectNotFoundError``.
    """

    def project(self, project_id: int) -> Project:
        """Give a project as it is now."""
        ...

    def find_or_create_project(self, title: str, label_config: str) -> Project:
        """Give the project of that title, the oldest of several; make it if absent.

        Without a label config it is made empty, for a person to set one up in Label Studio.

        Raises ``LabelStudioError`` when Label Studio refuses the label config.
        """
        ...

    def find_or_create_project_like(self, project_id: int, title: str) -> Project:
        """Give the project of that title, the oldest of several; make it if absent.

        It is made with the label config of another project, and with all else there is about how
        people label in that one: instructions, annotations a task, and so on.
        """
        ...

    def projects_with_prefix(self, title: str) -> Iterator[Project]:
        """List the projects whose title is this one or begins with it, the oldest first."""
        ...

    def highest_task_id(self, project_id: int) -> int:
        """Give the greatest task id in the project; 0 without tasks."""
        ...

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import tasks, all or none, and with what they bring, each once; give their ids.

        Raises ``TasksRefusedError`` when nothing was stored because of the tasks.
        """
        ...

    def task_origins_above(self, project_id: int, task_id: int) -> Iterator[tuple[int, Origin]]:
        """List (id, origin) of the tasks of ours with greater ids, in the order of their ids."""
        ...

    def update_task(self, task_id: int, body: Mapping[str, Any]) -> None:
        """Replace a task's ``data`` and ``meta``."""
        ...

    def delete_task(self, task_id: int) -> None:
        """Delete a task; an absent one is fine."""
        ...

    def task_states(self, project_id: int, since: str = "") -> Iterator[TaskState]:
        """List the tasks that were touched at or after a Label Studio time, by id.

        An annotation made, edited or deleted touches its task.
        """
        ...

    def uncounted_tasks(self, project_id: int, since: str = "") -> list[int]:
        """List, by id, those of them that have annotations of which their states tell nothing.

        One that is being annotated may be among them for a moment.
        """
        ...

    def recent_changes(self, project_id: int, since: str) -> RecentChanges:
        """Tell how many tasks `task_states` would list, and the newest time among them."""
        ...

    def now(self) -> str:
        """Give Label Studio's own time, to the second, as `task_states` takes it."""
        ...

    def completions(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Completion]:
        """Read these tasks with their annotations, by id; those that are gone are left out."""
        ...

    def count_annotated(self, project_id: int) -> int:
        """Count the tasks that have a finished annotation, skipped ones included."""
        ...

    def count_annotations(self, project_ids: Sequence[int]) -> dict[int, int]:
        """Count the finished annotations of projects, skipped ones included, in few requests.

        One that does not exist is left out.
        """
        ...

    def version(self) -> str:
        """Give the version of Label Studio, as in 1.23.2."""
        ...

    def register_storage(self, project_id: int, location: StorageLocation) -> None:
        """Let the project's annotators open the objects of a bucket.

        Registers a storage connection that never syncs, once: Label Studio signs the
        ``s3://`` and ``gs://`` URLs of tasks with it. Called again with another endpoint or
        region, it changes that; a storage connection that a person made stays as it is.

        Raises ``LabelStudioError`` when Label Studio can't reach the bucket.
        """
        ...

    def register_webhook(self, project_id: int, address: str, secret: str) -> None:
        """Have Label Studio POST to an address when an annotation is made, changed or deleted.

        It shows the secret in the header `SECRET_HEADER`, says which of these it was, and no
        more. Registered once for an address; what differs there is corrected, and what others
        have registered stays as it is. It waits a second for an answer, and does not try again.

        Raises ``LabelStudioError`` when Label Studio calls nobody at such an address.
        """
        ...
