"""Label Studio, as the labeling app of the project."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import base64
import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ls_pipeline.domain.completions import (
    WHOLE_FIELDS,
    Completion,
    RecentChanges,
    TaskState,
    parse_completion,
)
from ls_pipeline.domain.errors import (
    LabelStudioError,
    ProjectNotFoundError,
    TasksRefusedError,
)
from ls_pipeline.domain.tasks import Origin, origin_of
from ls_pipeline.resources import environment
from ls_pipeline.resources.label_studio import storages as label_studio_storages
from ls_pipeline.resources.label_studio import webhooks as label_studio_webhooks
from ls_pipeline.resources.label_studio.http import LabelStudioAPI, detail
from ls_pipeline.resources.labeling_app import Project, StorageLocation
from ls_pipeline.settings.model import TITLE_LENGTHS

if TYPE_CHECKING:
    import httpx

LIGHT_PAGE = 1000
WHOLE_PAGE = 200
"""Tasks in one answer, without and with their annotations."""

PROJECTS_PAGE = 100
"""Projects in one answer; Label Studio gives no more."""

PROJECT_FIELDS = "id,title,label_config,task_number"
"""What is asked of a project: the other counts take 100 ms on one of 100,000 tasks, these 20."""

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
"""How people label in a project: what one that continues it is made with."""

DUPLICATE_SUFFIX = " (made twice, unused)"
"""Ends the title of a project that nothing needs, and that somebody may delete."""

IMPORT_COUNTS = {"annotations": "annotation_count", "predictions": "prediction_count"}
"""What tasks may bring, and where the answer to an import counts it."""

IMPORTS_AT_MOST = 3
"""Of the same tasks, where it has lost what they brought."""

IMPORT_TIMEOUT = 600.0
"""Seconds. 100,000 tasks in one call took 12 s on an idle server."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What answers, and as whom it knows us."""

    version: str
    token: str
    """``legacy token`` or ``personal access token``."""
    user: str


@dataclass(frozen=True, slots=True)
class BrowserResponse:
    """How a browser fares with the URL of a task's object."""

    status: int
    """0: no answer."""
    host: str
    """Where Label Studio sent it; empty when it hands the bytes on itself."""
    allowed: bool
    """Label Studio's pages may use the answer: it is their own, or CORS lets them."""


class LabelStudio(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Label Studio server, Community edition, 1.23."""

    url: str = Field(
        default="",
        description="Empty: LABEL_STUDIO_URL, else the one that `ls-pipeline start` runs in the "
        "home, else http://localhost:8080.",
    )
    api_key: str = Field(
        default="",
        description="Legacy token or personal access token. Empty: LABEL_STUDIO_API_KEY.",
    )
    google_credentials: str = Field(
        default="",
        description="File with a service account's key for Label Studio to sign gs:// URLs with. "
        "Empty: LABEL_STUDIO_GOOGLE_CREDENTIALS, else Label Studio's own credentials serve.",
    )

    def project(self, project_id: int) -> Project:
        params = {"include": PROJECT_FIELDS}
        return self._project(self.api.json("GET", f"api/projects/{project_id}/", params=params))

    def projects_with_prefix(self, title: str) -> Iterator[Project]:
        # The server's filter is a substring match that ignores case.
        params = {"title": title, "ordering": "id", "include": PROJECT_FIELDS}
        for page in itertools.count(1):
            asked = {**params, "page_size": PROJECTS_PAGE, "page": page}
            answer = self.api.json("GET", "api/projects/", params=asked)
            for one in answer["results"]:
                if one["title"].startswith(title):
                    yield self._project(one)
            if not answer["next"]:
                return

    def find_or_create_project(self, title: str, label_config: str) -> Project:
        body = {"label_config": label_config or "<View></View>"}
        return self.find_project(title) or self._made(title, body)

    def find_or_create_project_like(self, project_id: int, title: str) -> Project:
        if found := self.find_project(title):
            return found
        params = {"include": ",".join(LABELING_SETTINGS)}
        like = self.api.json("GET", f"api/projects/{project_id}/", params=params)
        # What was never set it gives as null, and crashes on where it gets it.
        return self._made(title, {name: value for name, value in like.items() if value is not None})

    def find_project(self, title: str) -> Project | None:
        """Give the project of that title, the oldest of several, if there is one."""
        return next((one for one in self.projects_with_prefix(title) if one.title == title), None)

    def _made(self, title: str, set_up: Mapping[str, Any]) -> Project:
        made = self._project(
            self.api.json("POST", "api/projects/", json={**set_up, "title": title})
        )
        first = self.find_project(title) or made
        if first.id != made.id:  # another run made one at the same moment: the older one stays
            # Two deletions at once have Label Studio never count an annotation again.
            spare = title[: TITLE_LENGTHS[-1] - len(DUPLICATE_SUFFIX)] + DUPLICATE_SUFFIX
            self.api.json("PATCH", f"api/projects/{made.id}/", json={"title": spare})
        return first

    def _project(self, found: Mapping[str, Any]) -> Project:
        return Project(
            found["id"],
            found["title"],
            found["label_config"],
            found["task_number"] or 0,
            f"{self.public_url}/projects/{found['id']}",
        )

    def highest_task_id(self, project_id: int) -> int:
        query = {"ordering": ["-tasks:id"]}
        found = self._page(project_id, query, 1, include="id")
        return found[0]["id"] if found else 0

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import tasks as ``LabelingApp.import_tasks`` says, and with all that they bring.

        On SQLite, where its database was locked, Label Studio tries again by itself, and has lost
        the tasks' predictions and annotations by then: such tasks are deleted, and sent anew.
        """
        brought = any(one.get(kind) for one in tasks for kind in IMPORT_COUNTS)
        for _ in range(IMPORTS_AT_MOST):
            found = self._imported(project_id, tasks)
            ids: list[int] = found["task_ids"]
            if not brought or any(found.get(count) != 0 for count in IMPORT_COUNTS.values()):
                return ids
            for number in ids:
                self.delete_task(number)
        raise TasksRefusedError(
            f"Label Studio stored {len(tasks)} tasks without their predictions and annotations; "
            "its log may say why.",
            {},
            crashed=True,
        )

    def _imported(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        answer = self.api.send(
            "POST",
            f"api/projects/{project_id}/import",
            params={"return_task_ids": "true", "commit_to_project": "true"},
            # Written here: the SDK looks at each value of `json` first, for longer than it sends.
            content=json.dumps(list(tasks)).encode(),
            headers={"Content-Type": "application/json"},
            request_options={"max_retries": 0, "timeout_in_seconds": IMPORT_TIMEOUT},
        )
        if answer.status_code in {400, 413, 500}:
            raise _refusal(answer, len(tasks))
        found: dict[str, Any] = self.api.content(answer)
        if "task_ids" not in found:
            raise LabelStudioError(
                f"Label Studio at {self.base_url} took {len(tasks)} tasks without telling their "
                "ids, as its Enterprise edition does; only the Community edition is supported."
            )
        return found

    def task_origins_above(self, project_id: int, task_id: int) -> Iterator[tuple[int, Origin]]:
        for task in self._tasks(project_id, [], LIGHT_PAGE, above=task_id, include="id,meta"):
            if origin := origin_of(task.get("meta")):
                yield task["id"], origin

    def update_task(self, task_id: int, body: Mapping[str, Any]) -> None:
        self.api.json("PATCH", f"api/tasks/{task_id}/", json=dict(body))

    def delete_task(self, task_id: int) -> None:
        with contextlib.suppress(ProjectNotFoundError):  # gone already
            self.api.json("DELETE", f"api/tasks/{task_id}/")

    def task_states(self, project_id: int, since: str = "") -> Iterator[TaskState]:
        fields = "id,meta,updated_at,total_annotations,cancelled_annotations"
        wanted = [_touched(since)] if since else []
        for task in self._tasks(project_id, wanted, LIGHT_PAGE, include=fields):
            finished = task["total_annotations"] + task["cancelled_annotations"]
            origin = origin_of(task.get("meta"))
            yield TaskState(task["id"], task["updated_at"], finished, origin)

    def recent_changes(self, project_id: int, since: str) -> RecentChanges:
        query = {
            "filters": {"conjunction": "and", "items": [_touched(since)]},
            "ordering": ["-tasks:updated_at"],
        }
        answer = self._listed(project_id, query, 1, include="id,updated_at")
        newest = answer["tasks"][0]["updated_at"] if answer["tasks"] else ""
        return RecentChanges(since, answer["total"], newest)

    def now(self) -> str:
        date = self.api.send("GET", "api/version").headers.get("date", "")
        try:
            moment = parsedate_to_datetime(date).astimezone(timezone.utc)
        except ValueError:
            raise LabelStudioError(
                f"Label Studio at {self.base_url} does not tell the time (no Date header); a "
                "proxy in between must let it pass."
            ) from None
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def completions(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Completion]:
        # The ids travel in the address: a hundred of them keep it short enough for any proxy.
        for start in range(0, len(task_ids), 100):
            some = list(task_ids[start : start + 100])
            wanted = [_is("id", "in_list", some, "Number")]
            # Asked for by name: what its Data Manager shows beside it takes as long again.
            for task in self._tasks(
                project_id, wanted, WHOLE_PAGE, fields="all", include=",".join(WHOLE_FIELDS)
            ):
                yield parse_completion(task)

    def uncounted_tasks(self, project_id: int, since: str = "") -> list[int]:
        wanted = [
            _is("annotations_ids", "greater", 0, "Number"),
            _is("total_annotations", "equal", 0, "Number"),
            _is("cancelled_annotations", "equal", 0, "Number"),
            *([_touched(since)] if since else []),
        ]
        # It lists a task once for each annotation.
        found = self._tasks(project_id, wanted, LIGHT_PAGE, include="id")
        return sorted({task["id"] for task in found})

    def count_annotated(self, project_id: int) -> int:
        if not self.project(project_id).tasks:  # Label Studio crashes on the filter
            return 0
        return self._count(project_id, [_is("annotations_ids", "empty", "false", "String")])

    def count_annotations(self, project_ids: Sequence[int]) -> dict[int, int]:
        # A page of projects with these counts takes half the time of counting one's tasks.
        finished = "total_annotations_number", "skipped_annotations_number"
        found: dict[int, int] = {}
        for start in range(0, len(project_ids), PROJECTS_PAGE):
            ids = ",".join(map(str, project_ids[start : start + PROJECTS_PAGE]))
            asked = {"ids": ids, "include": ",".join(("id", *finished)), "page_size": PROJECTS_PAGE}
            for one in self.api.json("GET", "api/projects/", params=asked)["results"]:
                found[one["id"]] = sum(one[count] or 0 for count in finished)
        return found

    def _count(self, project_id: int, conditions: Sequence[Mapping[str, Any]]) -> int:
        query = {"filters": {"conjunction": "and", "items": conditions}}
        total: int = self._listed(project_id, query, 1, include="id")["total"]
        return total

    def register_storage(self, project_id: int, location: StorageLocation) -> None:
        label_studio_storages.register_storage(
            self.api, project_id, location, self._google_credentials
        )

    def register_webhook(self, project_id: int, address: str, secret: str) -> None:
        label_studio_webhooks.register_webhook(self.api, project_id, address, secret)

    def has_webhook(self, project_id: int, address: str, secret: str) -> bool:
        """Tell whether `register_webhook` has nothing to do."""
        return label_studio_webhooks.has_webhook(self.api, project_id, address, secret)

    def version(self) -> str:
        return self._told("api/version", "release")

    def server_info(self) -> ServerInfo:
        """Say what answers, and as whom it knows us."""
        version, user = self.version(), self._told("api/current-user/whoami", "email")
        is_jwt = self.api.api_key.count(".") == 2  # noqa: PLR2004 - as the SDK tells them apart
        return ServerInfo(version, "personal access token" if is_jwt else "legacy token", user)

    def _told(self, path: str, name: str) -> str:
        try:
            return str(self.api.json("GET", path)[name])
        except (KeyError, TypeError):
            raise self.api.not_label_studio() from None

    def fetch_as_browser(self, task_id: int, uri: str) -> BrowserResponse:
        """Open an object of a task the way that its page in Label Studio does."""
        import httpx

        own, public = httpx.URL(self.base_url), httpx.URL(self.public_url)
        port = f":{public.port}" if public.port else ""
        origin = f"{public.scheme}://{public.host}{port}"
        try:
            answer = self.api.http.request(
                f"tasks/{task_id}/resolve/",
                method="GET",
                params={"fileuri": base64.urlsafe_b64encode(uri.encode()).decode()},
                headers={"Origin": origin, "Range": "bytes=0-0"},
                request_options={"max_retries": 0},
            )
        except httpx.HTTPError as error:
            if error.request.url.netloc == own.netloc:
                raise self.api.unavailable(error) from error
            return BrowserResponse(0, error.request.url.host, allowed=False)
        if not answer.history:
            return BrowserResponse(answer.status_code, "", allowed=True)
        allowed = answer.headers.get("access-control-allow-origin") in {"*", origin}
        return BrowserResponse(answer.status_code, answer.url.host, allowed)

    def _google_credentials(self) -> str:
        file = self.google_credentials or os.environ.get("LABEL_STUDIO_GOOGLE_CREDENTIALS")
        try:
            return Path(file).read_text(encoding="utf-8") if file else ""
        except OSError as error:
            raise LabelStudioError(
                f"The service account key for Label Studio can't be read ({error}); correct "
                "LABEL_STUDIO_GOOGLE_CREDENTIALS."
            ) from error

    @property
    def base_url(self) -> str:
        """Give the server's address, without a slash at its end."""
        return self._server.url

    @property
    def public_url(self) -> str:
        """Give the address at which people open it: LABEL_STUDIO_PUBLIC_URL, else the same."""
        return environment.label_studio_public_url(self.base_url)

    @cached_property
    def _server(self) -> environment.LabelStudioAddress:
        return environment.label_studio_address(self.url, self.api_key)

    @cached_property
    def api(self) -> LabelStudioAPI:
        return LabelStudioAPI(self.base_url, self._server.api_key)

    def _tasks(
        self,
        project_id: int,
        conditions: Sequence[Mapping[str, Any]],
        page_size: int,
        above: int = 0,
        **wanted: str,
    ) -> Iterator[dict[str, Any]]:
        """List tasks by id, each page asked for by the last id: what changes shifts nothing."""
        while True:
            items = [*conditions, _is("id", "greater", above, "Number")]
            query = {
                "filters": {"conjunction": "and", "items": items},
                "ordering": ["tasks:id"],
            }
            page = self._page(project_id, query, page_size, **wanted)
            yield from page
            if len(page) < page_size:
                return
            above = page[-1]["id"]

    def _page(
        self, project_id: int, query: Mapping[str, Any], page_size: int, **wanted: str
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._listed(project_id, query, page_size, **wanted)["tasks"]
        return found

    def _listed(
        self, project_id: int, query: Mapping[str, Any], page_size: int, **wanted: str
    ) -> dict[str, Any]:
        params = {
            "project": project_id,
            "query": json.dumps(query),
            "page_size": page_size,
            "resolve_uri": "false",  # else s3:// URLs come back as links into Label Studio
            **wanted,
        }
        found: dict[str, Any] = self.api.json("GET", "api/tasks/", params=params)
        return found


def prediction_errors(label_config: str) -> Callable[[Mapping[str, Any]], list[str]]:
    """Give the check of predictions against a label config, as the SDK makes it.

    Label Studio itself drops bad predictions in silence.
    """
    from label_studio_sdk.label_interface.interface import LabelInterface  # slow

    interface = LabelInterface(label_config)

    def errors(prediction: Mapping[str, Any]) -> list[str]:
        check: Any = interface.validate_prediction
        found = check(dict(prediction), return_errors=True)
        return list(found) if isinstance(found, list) else []

    return errors


def _touched(since: str) -> dict[str, Any]:
    return _is("updated_at", "greater_or_equal", since, "Datetime")


def _is(column: str, operator: str, value: object, kind: str) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def _refusal(answer: "httpx.Response", count: int) -> TasksRefusedError:
    """Read which tasks of a batch were refused, where the answer has an entry for each."""
    try:
        entries = answer.json()["validation_errors"]["non_field_errors"]
    except (ValueError, KeyError, TypeError):
        entries = []
    reasons = {}
    if len(entries) == count:
        # The rejection repeats the whole task behind " :: ".
        reasons = {n: str(said).split(" :: ")[0] for n, said in enumerate(entries) if said}
    crashed = answer.status_code == 500  # noqa: PLR2004
    said = f"Label Studio refused {count} tasks: {detail(answer)}"
    return TasksRefusedError(said, reasons, crashed=crashed)
