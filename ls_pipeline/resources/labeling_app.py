"""The labeling app, with its promises in words. `label_studio.app` keeps them.

``tests/contracts/test_labeling_app.py`` holds every implementation to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState
    from ls_pipeline.domain.tasks import Origin


SECRET_HEADER = "X-LS-Pipeline-Secret"  # noqa: S105 - a name
"""The request header that proves that a webhook call comes from Label Studio."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project; ``tasks`` is the server's own count."""

    id: int
    title: str
    label_config: str
    tasks: int
    url: str
    created_at: str
    """Part of its identity: after a reset of Label Studio, another project may get the same id."""
    is_new: bool = field(default=False, compare=False)
    """Whether the call that returned it has created it: it has nothing in it yet."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Says which ledger a project belongs to, and how far that ledger's changes have come.

    It is kept in Label Studio, where people don't edit.
    """

    id: int
    """The app's own number of the mark."""
    project_id: int
    ledger: str
    """The id of the ledger."""
    connection: str
    generation: int


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


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The server's version, and the user that the API key belongs to."""

    version: str
    token: str
    """``legacy token`` or ``personal access token``."""
    user: str


@dataclass(frozen=True, slots=True)
class BrowserResponse:
    """What a browser gets for the URL of a task's object."""

    status: int
    """0 without an answer."""
    host: str
    """The host that Label Studio redirected to; empty if Label Studio sent the bytes itself."""
    cors_allowed: bool
    """Whether Label Studio's pages may read the answer: same origin, or allowed by CORS."""


class LabelingApp(Protocol):
    """The app that annotators label tasks in. Safe to use from several threads.

    Times are Label Studio's own, as it writes them: ISO 8601 in UTC, with microseconds and a
    ``Z``. They can be compared as text.

    Every method may raise ``LabelStudioAccessError`` (the API key is missing or refused),
    ``LabelStudioUnavailableError`` (no answer, or a server error: whether a write took effect
    is unknown), ``ProjectNotFoundError`` or ``InvalidVariableError`` (such as LABEL_STUDIO_URL
    without a URL). An iterator raises them while it is read.
    """

    def project(self, project_id: int) -> Project:
        """Return a project as it is now."""

    def existing_projects(self, project_ids: Sequence[int]) -> dict[int, Project]:
        """Return those of these projects that exist, in few requests."""

    def find_project(self, title: str) -> Project | None:
        """Return the project with exactly this title, the oldest of several, or None."""

    def create_project(self, title: str, label_config: str) -> Project:
        """Create a project with a title that no project has.

        If one has it by then, return that one as it is. With an empty ``label_config``, the new
        project is empty, and a person sets it up in Label Studio.

        Raises ``LabelStudioError`` if Label Studio refuses the label config.
        """

    def create_project_like(self, project_id: int, title: str) -> Project:
        """Create a project as `create_project` does.

        The new project gets the label config of project ``project_id``, and its other settings
        for labeling, such as instructions and annotations per task. It gets none of its tasks.
        """

    def projects_with_prefix(self, prefix: str) -> Iterator[Project]:
        """List the projects whose title starts with ``prefix``, the oldest first."""

    def highest_task_id(self, project_id: int) -> int:
        """Return the highest task id in the project; 0 if it has no tasks."""

    def count_tasks_above(self, project_id: int, task_id: int) -> int:
        """Count the tasks with higher ids in the project."""

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import all of the tasks or none; return their ids, in the order of the tasks.

        Reads the tasks one by one, and keeps their text only.

        Sends one request, and never repeats it. But Label Studio may, if its SQLite database was
        locked after the first commit: then the tasks are stored twice, and the ids are those of
        the second time. The first of them is then higher than `highest_task_id` was, plus 1.

        That takes at least `repeats_after` seconds.

        Raises ``TasksRefusedError`` if Label Studio refused the tasks, and stored none. If
        ``crashed`` is set, it failed over them, and whether it stored them is unknown. Raises
        ``TaskPartsLostError`` if it stored them without their annotations and predictions.
        """

    @property
    def repeats_after(self) -> float:
        """Seconds that an import takes at least if its tasks are stored twice."""

    def task_origins_above(self, project_id: int, task_id: int) -> Iterator[tuple[int, Origin]]:
        """List (id, origin) of the tasks with higher ids, by id.

        Tasks without an origin are left out: ls_pipeline did not import them.
        """

    def update_task(self, task_id: int, body: Mapping[str, Any]) -> None:
        """Replace a task's ``data`` and ``meta``.

        Raises ``ProjectNotFoundError`` if the task does not exist, and ``TasksRefusedError`` if
        Label Studio refuses the change.
        """

    def add_prediction(self, task_id: int, body: Mapping[str, Any]) -> None:
        """Add a prediction to a task; each call adds another one.

        Raises ``TasksRefusedError`` if Label Studio refuses it, or if the task does not exist.
        """

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a prediction, if it exists."""

    def delete_task(self, task_id: int) -> None:
        """Delete a task, if it exists."""

    def task_states(self, project_id: int, since: str = "") -> Iterator[TaskState]:
        """List the tasks that changed at or after ``since``, by id, each once.

        Creating, editing or deleting an annotation changes its task.
        """

    def uncounted_tasks(self, project_id: int, since: str = "") -> list[int]:
        """Return the sorted ids of tasks that have annotations and a state that counts none.

        ``since`` is that of `task_states`. The list may contain, for a moment, a task that is
        being annotated.
        """

    def recent_changes(self, project_id: int, since: str) -> RecentChanges:
        """Return how many tasks `task_states` would list, and the newest time among them."""

    def now(self) -> str:
        """Return Label Studio's own time, to the second, in the form that `task_states` takes."""

    def completions(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Completion]:
        """Read tasks with their annotations, by id, each once.

        Tasks that don't exist, or are in another project, are left out.
        """

    def count_annotated(self, project_id: int) -> int:
        """Count the tasks that have a finished annotation, skipped ones included."""

    def count_annotations(self, project_ids: Sequence[int]) -> dict[int, int]:
        """Count the finished annotations of each project, skipped ones included, in few requests.

        Projects that don't exist are left out.
        """

    def users(self) -> dict[str, int]:
        """Return the id of each user by e-mail, in lower case."""

    def version(self) -> str:
        """Return the version of Label Studio, such as 1.23.2."""

    def register_storage(
        self, project_id: int, location: StorageLocation, *, is_new: bool = False
    ) -> None:
        """Let the project's annotators open the objects of a bucket.

        Registers a storage connection that never syncs: Label Studio only signs the ``s3://``
        and ``gs://`` URLs of tasks with it. A bucket has one of them: a later call changes its
        endpoint or region. A storage connection that a person made stays as it is. ``is_new`` says
        that the caller has made the project a moment ago, so that it has none yet.

        Raises ``LabelStudioError`` if Label Studio can't reach the bucket.
        """

    def register_webhook(self, project_id: int, address: str, secret: str) -> None:
        """Have Label Studio POST to an address when an annotation is created, edited or deleted.

        The request has the secret in the header `SECRET_HEADER`, and a body that only names the
        event. Label Studio waits one second for an answer, and does not retry.

        An address has one webhook: a later call corrects it. So does a call with the same secret
        and path at another host. Other webhooks stay as they are.

        Raises ``LabelStudioError`` if Label Studio refuses to call such an address.
        """

    def has_webhook(self, project_id: int, address: str, secret: str) -> bool:
        """Return whether `register_webhook` with these values would change nothing."""

    def marks(self, project_id: int = 0) -> list[Mark]:
        """Return the marks of a project, or of all, the oldest first, in one request.

        The marks of a project disappear with it. Raises ``ProjectNotFoundError`` if this one does
        not exist.
        """

    def add_mark(self, project_id: int, ledger: str, connection: str, generation: int) -> Mark:
        """Add a mark to a project, which may have others.

        Raises ``LabelStudioError`` if Label Studio refuses to store it.
        """

    def raise_mark(self, mark: Mark, generation: int) -> Mark:
        """Set the generation of a mark; return the mark as it is now.

        Raises ``ProjectNotFoundError`` if the mark is gone, or if its number now belongs to
        something else, such as a mark of another ledger. That stays as it is.
        """

    def remove_mark(self, mark: Mark) -> None:
        """Remove a mark, if it exists. If its number belongs to something else, that stays."""


class DiagnosableLabelingApp(LabelingApp, Protocol):
    """A labeling app with what only `ls-pipeline doctor` needs."""

    @property
    def base_url(self) -> str:
        """The server's address, without a slash at its end."""

    @property
    def public_url(self) -> str:
        """The address that people open in a browser, without a slash at its end."""

    def server_info(self) -> ServerInfo:
        """Return the server's version, and the user that the API key belongs to.

        Raises ``LabelStudioError`` if the server is not Label Studio.
        """

    def fetch_as_browser(self, task_id: int, uri: str) -> BrowserResponse:
        """Request the first byte of a task's object, as a browser does for the task's page."""
