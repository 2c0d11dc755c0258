"""Checks of Label Studio: the server, a connection's project, and webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Check
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

    Without a project yet, return the one that it will get.
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
