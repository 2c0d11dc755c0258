"""Checks of Label Studio: the server, a connection's project, objects in the browser, webhooks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Check
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.engine.rebind import project_difference
from ls_pipeline.resources.environment import webhook_secret
from ls_pipeline.settings.validation import data_key_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.labeling_app import DiagnosableLabelingApp, LabelingApp, Project
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.settings.model import Connection, Source

TESTED_VERSION = "1.23"

ADVISED_TASKS = 100_000
"""Tasks in a project. https://labelstud.io/guide/tasks says that more make it slow."""

SEARCHED_OBJECTS = 100
"""Known objects that are searched for a loaded task."""

FIRST_ERROR, FORBIDDEN, NOT_FOUND = 400, 403, 404
"""HTTP status codes."""


def check_server(cli: CliContext) -> Iterator[Check]:
    """Check that Label Studio answers, accepts the API key, and has a tested version."""
    app: DiagnosableLabelingApp = cli.label_studio
    try:
        info = app.server_info()
    except PipelineError as error:
        yield Check.from_error("label studio", error)
        return
    yield Check("label studio", "ok", f"It answers at {app.base_url}.")
    yield Check("token", "ok", f"The {info.token} of {info.user} is accepted.")
    message = f"Label Studio has version {info.version}"
    if info.version.split(".")[:2] == TESTED_VERSION.split("."):
        yield Check("version", "ok", f"{message}.")
    else:
        message += f". ls_pipeline is tested with {TESTED_VERSION}."
        yield Check("version", "warning", message, "Try one connection on a small folder first.")


def check_project(
    connection_ledger: ConnectionLedger, connection: Connection, cli: CliContext
) -> Generator[Check, None, LabelConfig]:
    """Check a connection's projects. Return the label config of the newest one.

    If there is no project yet, return the one that it will get.
    """
    try:
        projects, differences = _find_projects(connection_ledger, connection, cli.label_studio)
    except PipelineError as error:
        yield Check.from_error("project", error)
        return LabelConfig()
    for project in projects:
        yield Check("project", "ok", f"It is {project.title!r}, {project.url}.")
    for difference in differences:
        hint = f"See what `ls-pipeline connections rebind {connection.name}` offers."
        yield Check("project", "failed", difference, hint)
    if not projects and not differences:
        yield Check("project", "ok", f"The first run will create {connection.project!r}.")
    elif projects and connection.source:
        yield from _check_size(projects[-1], connection.source)
    label_config = projects[-1].label_config if projects else connection.label_config
    return (yield from _check_label_config(connection.source, label_config))


def _find_projects(
    connection_ledger: ConnectionLedger, connection: Connection, app: LabelingApp
) -> tuple[list[Project], list[str]]:
    """Return a connection's projects, and how others differ from what the ledger knows.

    Before the first run, the project is found by its title.
    """
    bound = list(connection_ledger.projects.bound().values())
    if not bound:
        titled = app.find_project(connection.project)
        return [titled] if titled else [], []
    existing = app.existing_projects([known.id for known in bound])
    compared = {known.id: project_difference(known, existing.get(known.id)) for known in bound}
    same = [existing[project_id] for project_id, difference in compared.items() if not difference]
    return same, list(filter(None, compared.values()))


def _check_size(newest: Project, source: Source) -> Iterator[Check]:
    if newest.tasks > ADVISED_TASKS and not source.params.tasks_per_project:
        yield Check(
            "project size",
            "warning",
            f"{newest.title!r} has {newest.tasks:,} tasks. Label Studio's maintainers advise about "
            f"{ADVISED_TASKS:,} for a project.",
            "Set the source param tasks_per_project. New tasks then go to an overflow project.",
        )


def _check_label_config(
    source: Source | None, label_config: str
) -> Generator[Check, None, LabelConfig]:
    try:
        parsed = LabelConfig(label_config)
    except PipelineError as error:
        yield Check.from_error("label config", error)
        return LabelConfig()
    if not (keys := parsed.keys):
        needs_key = source and source.params.use_blob_urls and not source.params.data_key
        yield Check(
            "label config",
            "failed" if needs_key else "warning",
            "The label config shows no data.",
            'Add a tag such as <Text name="text" value="$text"/> to it.',
        )
    elif errors := list(data_key_errors(source.params, label_config)) if source else []:
        hint = "Change the label config or the params."
        yield Check("label config", "failed", " ".join(errors), hint)
    else:
        yield Check("label config", "ok", f"It shows {', '.join(map(repr, keys))}.")
    return parsed


def check_blobs(
    connection_ledger: ConnectionLedger,
    source: Source,
    key: str,
    cli: CliContext,
    *,
    app_works: bool,
) -> Iterator[Check]:
    """Open the object of a loaded task as a browser does. ``key`` is tried first."""
    task = _loaded_task(connection_ledger, source.params.filter.folder, key) if app_works else None
    if task is None:
        message = "No task is loaded yet." if app_works else "The check 'label studio' failed."
        hint = "Run ls-pipeline sync, then ls-pipeline doctor again." if app_works else ""
        yield Check("blobs: open", "skipped", message, hint)
        yield Check("blobs: CORS", "skipped", message, hint)
        return
    task_id, uri = task[0], source.root + task[1]
    try:
        response = cli.label_studio.fetch_as_browser(task_id, uri)
    except PipelineError as error:
        yield Check.from_error("blobs: open", error)
        return
    host = response.host or "Label Studio itself"
    if response.status >= FIRST_ERROR or not response.status:
        answer = f"answers {response.status}" if response.status else "does not answer"
        message = f"{uri} does not open in Label Studio: {host} {answer}."
        yield Check("blobs: open", "failed", message, _opening_hint(response.status, response.host))
        yield Check("blobs: CORS", "skipped", "The object does not open.")
        return
    yield Check("blobs: open", "ok", f"Task {task_id} opens {uri} from {host}.")
    yield _check_cors(cli.label_studio.public_url, response.host, allowed=response.cors_allowed)


def _opening_hint(status: int, host: str) -> str:
    if host and status == NOT_FOUND:
        return "If the object was removed, its task can't show it. Otherwise check the endpoint."
    if host and status:
        return (
            "Label Studio's server needs credentials that may read the bucket and use its KMS key, "
            "if it has one. The source's region_name must be the bucket's region."
        )
    if host:
        return "Make the bucket's endpoint reachable from here and from the annotators' browsers."
    if status == FORBIDDEN:
        return "Add the user of LABEL_STUDIO_API_KEY to the project."
    return (
        "Run ls-pipeline sync, which registers the bucket. Label Studio's server needs credentials "
        "for the bucket, and its endpoint as S3_ENDPOINT."
    )


def _check_cors(pages: str, host: str, *, allowed: bool) -> Check:
    if not host:
        return Check("blobs: CORS", "ok", "Label Studio serves the object itself.")
    if allowed:
        return Check("blobs: CORS", "ok", f"{host} lets pages of {pages} read the object.")
    return Check(
        "blobs: CORS",
        "failed",
        f"{host} does not let pages of {pages} read the object, so browsers can't show it.",
        f"Add a CORS rule to the bucket that allows GET from {pages}.",
    )


def _loaded_task(
    connection_ledger: ConnectionLedger, folder: str, key: str
) -> tuple[int, str] | None:
    """Return the id and key of a loaded task: of ``key``, or of one of the first known objects."""
    known_objects = islice(connection_ledger.objects.known(folder), SEARCHED_OBJECTS)
    known_keys = (known.key for known in known_objects if known.state is not State.REMOVED)
    for candidate in (key, *known_keys):
        for row in connection_ledger.objects.all_rows_of(candidate) if candidate else ():
            return row.task_id, candidate
    return None


def check_webhook(
    connection_ledger: ConnectionLedger, url: str, cli: CliContext
) -> Iterator[Check]:
    """Check that the webhook receiver answers, and that Label Studio is set up to call it."""
    from ls_pipeline.cli.servers.webhook_receiver import answers_at  # slow

    if answers_at(url):
        yield Check("webhooks", "ok", f"The webhook receiver answers at {url}.")
    else:
        hint = "Run ls-pipeline webhooks or ls-pipeline start, or correct LS_PIPELINE_WEBHOOK_URL."
        yield Check("webhooks", "warning", f"No webhook receiver answers at {url}.", hint)
    project_ids = list(connection_ledger.projects.ids().values())
    if not project_ids:
        return
    app, address = cli.label_studio, f"{url}/connections/{connection_ledger.name}"
    try:
        is_registered = all(app.has_webhook(id_, address, webhook_secret()) for id_ in project_ids)
    except PipelineError as error:
        yield Check.from_error("webhook calls", error)
        return
    if is_registered:
        yield Check("webhook calls", "ok", f"Label Studio calls {address} when labels change.")
    else:
        hint = "Run ls-pipeline sync. It registers the webhook, or warns why it can't."
        yield Check("webhook calls", "warning", f"Label Studio does not call {address} yet.", hint)
