"""Label Studio as the project's labeling app."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import base64
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import BaseModel, Field, ValidationError

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.completions import (
    WHOLE_FIELDS,
    Completion,
    RecentChanges,
    TaskState,
    parse_completion,
)
from ls_pipeline.domain.errors import (
    InvalidVariableError,
    LabelStudioError,
    ProjectNotFoundError,
)
from ls_pipeline.domain.moments import FORM, check_moment
from ls_pipeline.domain.tasks import Origin, parse_origin
from ls_pipeline.resources import environment
from ls_pipeline.resources.label_studio import (
    answers,
    data_manager,
    imports,
    marks,
    storages,
    webhooks,
)
from ls_pipeline.resources.label_studio.data_manager import changed, condition, filters
from ls_pipeline.resources.label_studio.http import LabelStudioAPI, created_or_found, invalid_url
from ls_pipeline.resources.labeling_app import (
    BrowserResponse,
    Mark,
    Project,
    ServerInfo,
    StorageLocation,
)
from ls_pipeline.settings.model import TITLE_LENGTHS

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)


STATES_PAGE = 1000
"""Tasks in one answer without their annotations."""

COMPLETIONS_PAGE = 250
"""Tasks in one answer with their annotations."""

PROJECTS_PAGE = 100
"""Projects in one answer: Label Studio's maximum (``projects/api.py``)."""

PROJECT_FIELDS = "id,title,label_config,task_number,created_at"
"""The fields of `Project`. With all counts, a project of 100,000 tasks takes 100 ms, not 20."""

LABELING_SETTINGS = (
    "color",
    "description",
    "enable_empty_annotation",
    "evaluate_predictions_automatically",
    "expert_instruction",
    "label_config",
    "maximum_annotations",
    "reveal_preannotations_interactively",
    "sampling",
    "show_annotation_history",
    "show_collab_predictions",
    "show_instruction",
    "show_skip_button",
    "skip_queue",
)
"""The fields that `create_project_like` copies."""

DUPLICATE_SUFFIX = " (made twice, unused)"
"""Ends the title of a project that two runs created at once. A person may delete it."""


class LabelStudio(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Label Studio server, Community edition, 1.23."""

    url: str = Field(
        default="",
        description="Empty: LABEL_STUDIO_URL, else the server that `ls-pipeline start` runs in "
        "this home, else http://localhost:8080.",
    )
    api_key: str = Field(
        default="",
        description="Legacy token or personal access token. Empty: LABEL_STUDIO_API_KEY.",
    )
    google_credentials: str = Field(
        default="",
        description="Key file of a service account; Label Studio signs gs:// URLs with it. "
        "Empty: LABEL_STUDIO_GOOGLE_CREDENTIALS, else Label Studio uses its own credentials.",
    )

    # -- projects ---------------------------------------------------------------------------

    def project(self, project_id: int) -> Project:
        params = {"include": PROJECT_FIELDS}
        path = f"api/projects/{project_id}/"
        return self._project(self.api.parse(answers.ProjectRow, "GET", path, params=params))

    def existing_projects(self, project_ids: Sequence[int]) -> dict[int, Project]:
        page = answers.Results[answers.ProjectRow]
        rows = (row for found in self._pages(page, project_ids, PROJECT_FIELDS) for row in found)
        return {row.id: self._project(row) for row in rows}

    def projects_with_prefix(self, prefix: str) -> Iterator[Project]:
        # The server's filter is a substring match that ignores case.
        params = {
            "title": prefix,
            "ordering": "id",
            "include": PROJECT_FIELDS,
            "page_size": PROJECTS_PAGE,
        }
        last = 0
        for page in itertools.count(1):
            query = {**params, "page": page}
            found = self.api.parse(answers.Results[Any], "GET", "api/projects/", params=query)
            rows = answers.those_of(answers.ProjectRow, found.results)
            yield from (self._project(row) for row in rows if _has_prefix(row, prefix))
            if not found.next:
                return
            last = data_manager.next_after(self.api, last, rows)

    def find_project(self, title: str) -> Project | None:
        projects = self.projects_with_prefix(title)
        return next((project for project in projects if project.title == title), None)

    def create_project(self, title: str, label_config: str) -> Project:
        return self._create_project(title, {"label_config": label_config or "<View></View>"})

    def create_project_like(self, project_id: int, title: str) -> Project:
        params = {"include": ",".join(LABELING_SETTINGS)}
        path = f"api/projects/{project_id}/"
        copied = self.api.parse(answers.Settings, "GET", path, params=params).model_extra or {}
        # Label Studio returns null for what was never set, and crashes if it is sent null.
        settings = {name: value for name, value in copied.items() if value is not None}
        return self._create_project(title, settings)

    def _create_project(self, title: str, settings: Mapping[str, Any]) -> Project:
        def create() -> Project:
            body = {**settings, "title": title}
            row = self.api.parse(answers.ProjectRow, "POST", "api/projects/", json=body)
            return replace(self._project(row), is_new=True)

        created = created_or_found(create, lambda: self.find_project(title))
        oldest = self.find_project(title) or created
        if oldest.id != created.id:  # another run created one at the same moment
            # It is renamed, not deleted: after two deletions at the same moment, Label Studio
            # never counts an annotation again.
            unused = title[: TITLE_LENGTHS[-1] - len(DUPLICATE_SUFFIX)] + DUPLICATE_SUFFIX
            self.api.json("PATCH", f"api/projects/{created.id}/", json={"title": unused})
            return oldest
        return created

    def _pages(
        self, kind: type[answers.Results[T]], project_ids: Sequence[int], fields: str
    ) -> Iterator[list[T]]:
        """Read fields of those of these projects that exist."""
        params = {"include": fields, "page_size": PROJECTS_PAGE}
        for batch in batches(project_ids, PROJECTS_PAGE):
            ids = ",".join(map(str, batch))
            query = {**params, "ids": ids}
            yield self.api.parse(kind, "GET", "api/projects/", params=query).results

    def _project(self, row: answers.ProjectRow) -> Project:
        url, count = f"{self.public_url}/projects/{row.id}", row.task_number or 0
        title, label_config = row.title or "", row.label_config or ""
        return Project(row.id, title, label_config, count, url, row.created_at)

    # -- tasks ------------------------------------------------------------------------------

    def highest_task_id(self, project_id: int) -> int:
        query = {"ordering": ["-tasks:id"]}
        tasks = data_manager.page(
            self.api, answers.TaskRow, project_id, query, 1, include="id"
        ).tasks
        return tasks[0].id if tasks else 0

    def count_tasks_above(self, project_id: int, task_id: int) -> int:
        above = [condition("id", "greater", task_id, "Number")]
        return data_manager.page(
            self.api, answers.TaskRow, project_id, filters(above), 1, include="id"
        ).total

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        return imports.import_tasks(self.api, project_id, tasks)

    @property
    def repeats_after(self) -> float:
        return imports.REPEATS_AFTER

    def task_origins_above(self, project_id: int, task_id: int) -> Iterator[tuple[int, Origin]]:
        tasks = data_manager.tasks(
            self.api,
            answers.TaskMeta,
            project_id,
            [],
            STATES_PAGE,
            above=task_id,
            include="id,meta",
        )
        for task in tasks:
            if origin := parse_origin(task.meta):
                yield task.id, origin

    def update_task(self, task_id: int, body: Mapping[str, Any]) -> None:
        answer = self.api.send("PATCH", f"api/tasks/{task_id}/", json=dict(body))
        if answer.status_code in {400, 413}:
            raise imports.refusal(answer, 1)
        self.api.content(answer)

    def add_prediction(self, task_id: int, body: Mapping[str, Any]) -> None:
        answer = self.api.send("POST", "api/predictions/", json={**body, "task": task_id})
        if answer.status_code in {400, 413}:
            raise imports.refusal(answer, 1)
        self.api.content(answer)

    def delete_prediction(self, prediction_id: int) -> None:
        with contextlib.suppress(ProjectNotFoundError):
            self.api.json("DELETE", f"api/predictions/{prediction_id}/")

    def delete_task(self, task_id: int) -> None:
        with contextlib.suppress(ProjectNotFoundError):
            self.api.json("DELETE", f"api/tasks/{task_id}/")

    def task_states(self, project_id: int, since: str = "") -> Iterator[TaskState]:
        fields = "id,meta,updated_at,total_annotations,cancelled_annotations"
        for task in data_manager.tasks(
            self.api, answers.TaskCounts, project_id, changed(since), STATES_PAGE, include=fields
        ):
            finished = (task.total_annotations or 0) + (task.cancelled_annotations or 0)
            yield TaskState(task.id, task.updated_at, finished, parse_origin(task.meta))

    def uncounted_tasks(self, project_id: int, since: str = "") -> list[int]:
        conditions = [
            condition("annotations_ids", "greater", 0, "Number"),
            condition("total_annotations", "equal", 0, "Number"),
            condition("cancelled_annotations", "equal", 0, "Number"),
            *changed(since),
        ]
        # Label Studio lists a task once for each annotation.
        tasks = data_manager.tasks(
            self.api, answers.TaskRow, project_id, conditions, STATES_PAGE, include="id"
        )
        return sorted({task.id for task in tasks})

    def recent_changes(self, project_id: int, since: str) -> RecentChanges:
        query = {**filters(changed(since)), "ordering": ["-tasks:updated_at"]}
        page = data_manager.page(
            self.api, answers.TaskTime, project_id, query, 1, include="id,updated_at"
        )
        newest = page.tasks[0].updated_at if page.tasks else ""
        return RecentChanges(since, page.total, newest)

    def now(self) -> str:
        date = self.api.send("GET", "api/version").headers.get("date", "")
        try:
            moment = parsedate_to_datetime(date).astimezone(timezone.utc)
            return check_moment(moment.strftime(FORM))
        except (ValueError, OverflowError):
            raise LabelStudioError(
                f"Label Studio at {self.base_url} does not send its time (no Date header).",
                hint="Let each proxy in between pass the header on.",
            ) from None

    def completions(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Completion]:
        ids = sorted(set(task_ids))
        # Fields are named one by one: what the Data Manager adds takes as long again. Annotations
        # are expanded: if they are not, it makes a serializer for each task, which takes twice
        # as long as everything else (``DataManagerTaskSerializer.get_annotations``).
        include = ",".join(WHOLE_FIELDS)
        params: Any = {"fields": "all", "include": include, "expand": "annotations"}
        for some in data_manager.id_conditions(ids, COMPLETIONS_PAGE):
            tasks = data_manager.tasks(
                self.api, answers.WholeTask, project_id, [some], COMPLETIONS_PAGE, **params
            )
            yield from (parse_completion(task.document) for task in tasks)

    def count_annotated(self, project_id: int) -> int:
        if not self.project(project_id).tasks:  # Label Studio crashes on the filter
            return 0
        query = filters([condition("annotations_ids", "empty", "false", "String")])
        return data_manager.page(
            self.api, answers.TaskRow, project_id, query, 1, include="id"
        ).total

    def count_annotations(self, project_ids: Sequence[int]) -> dict[int, int]:
        # A page of projects with these counts takes half the time of counting one's tasks.
        finished = "total_annotations_number", "skipped_annotations_number"
        pages = self._pages(answers.Results[Any], project_ids, ",".join(("id", *finished)))
        # A project whose counts have another form is left out, so that it hides no other.
        rows = (row for page in pages for row in answers.those_of(answers.ProjectCounts, page))
        return {row.id: sum(getattr(row, count) or 0 for count in finished) for row in rows}

    # -- storages, webhooks and marks --------------------------------------------------------

    def register_storage(
        self, project_id: int, location: StorageLocation, *, is_new: bool = False
    ) -> None:
        storages.register_storage(
            self.api, project_id, location, self._google_credentials, is_new=is_new
        )

    def register_webhook(self, project_id: int, address: str, secret: str) -> None:
        webhooks.register_webhook(self.api, project_id, address, secret)

    def has_webhook(self, project_id: int, address: str, secret: str) -> bool:
        return webhooks.has_webhook(self.api, project_id, address, secret)

    def marks(self, project_id: int = 0) -> list[Mark]:
        return marks.marks(self.api, project_id)

    def add_mark(self, project_id: int, ledger: str, connection: str, generation: int) -> Mark:
        return marks.add_mark(self.api, project_id, ledger, connection, generation)

    def raise_mark(self, mark: Mark, generation: int) -> Mark:
        return marks.raise_mark(self.api, mark, generation)

    def remove_mark(self, mark: Mark) -> None:
        marks.remove_mark(self.api, mark)

    def _google_credentials(self) -> str:
        file = self.google_credentials or os.environ.get("LABEL_STUDIO_GOOGLE_CREDENTIALS")
        try:
            return Path(file).expanduser().read_text(encoding="utf-8") if file else ""
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # never its text: it may quote the key itself
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidVariableError(
                "LABEL_STUDIO_GOOGLE_CREDENTIALS",
                f"names a service account key that can't be read ({reason}).",
                hint="Set it to the path of the key's file.",
            ) from None

    # -- the server -------------------------------------------------------------------------

    def users(self) -> dict[str, int]:
        members = answers.those_of(answers.Member, self.api.items("GET", "api/users/"))
        return {member.email.lower(): member.id for member in members}

    def version(self) -> str:
        return self._ask(answers.Version, "api/version").release

    def server_info(self) -> ServerInfo:
        version, user = self.version(), self._ask(answers.User, "api/current-user/whoami").email
        is_jwt = self.api.api_key.count(".") == 2  # noqa: PLR2004 - the parts of a JSON web token
        return ServerInfo(version, "personal access token" if is_jwt else "legacy token", user)

    def _ask(self, kind: type[ModelT], path: str) -> ModelT:
        try:
            return kind.model_validate(self.api.json("GET", path))
        except ValidationError:
            raise self.api.not_label_studio() from None

    def fetch_as_browser(self, task_id: int, uri: str) -> BrowserResponse:
        import httpx

        origin = self._public_origin()
        with self.api.errors_translated():
            try:
                answer = self.api.http.request(
                    f"tasks/{task_id}/resolve/",  # io_storages/proxy_api.py of Label Studio
                    method="GET",
                    params={"fileuri": base64.urlsafe_b64encode(uri.encode()).decode()},
                    headers={"Origin": origin, "Range": "bytes=0-0"},
                    retries=0,
                    follow_redirects=True,
                )
            except httpx.HTTPError as error:
                if error.request.url.netloc == httpx.URL(self.base_url).netloc:
                    raise
                return BrowserResponse(0, error.request.url.host, cors_allowed=False)
        if not answer.history:
            return BrowserResponse(answer.status_code, "", cors_allowed=True)
        allowed = answer.headers.get("access-control-allow-origin") in {"*", origin}
        return BrowserResponse(answer.status_code, answer.url.host, allowed)

    def _public_origin(self) -> str:
        """Return what a browser sends as the ``Origin`` of Label Studio's pages."""
        import httpx

        try:
            url = httpx.URL(self.public_url)
        except httpx.InvalidURL as error:
            raise invalid_url("LABEL_STUDIO_PUBLIC_URL") from error
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")

    @property
    def base_url(self) -> str:
        return self._server.url

    @property
    def public_url(self) -> str:
        return environment.label_studio_public_url(self.base_url)

    @cached_property
    def _server(self) -> environment.LabelStudioAddress:
        return environment.label_studio_address(self.url, self.api_key)

    @cached_property
    def api(self) -> LabelStudioAPI:
        return LabelStudioAPI(self.base_url, self._server.api_key, self._server.headers)


def _has_prefix(row: answers.ProjectRow, prefix: str) -> bool:
    return (row.title or "").startswith(prefix)
