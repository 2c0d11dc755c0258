"""Marks of projects, kept as inactive webhooks: a place that the API offers and people leave alone.

Label Studio never calls such a webhook. Its headers hold the mark.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import (
    LabelStudioAccessError,
    LabelStudioError,
    ProjectNotFoundError,
)
from ls_pipeline.resources.label_studio.answers import Webhook, those_of
from ls_pipeline.resources.label_studio.http import created_or_found
from ls_pipeline.resources.label_studio.webhooks import PATH, list_webhooks
from ls_pipeline.resources.labeling_app import Mark

if TYPE_CHECKING:
    from ls_pipeline.resources.label_studio.http import LabelStudioAPI

# Label Studio accepts only hosts that resolve, and no private or documentation address
# (`validate_url_for_ssrf`). Without DNS that leaves an IP address. This one is AS112's (RFC 7535),
# which is there to absorb stray DNS requests; no web server will ever have it.
URL = "http://192.31.196.1/ls-pipeline-uses-this-do-not-edit"

LEDGER = "X-LS-Pipeline-Ledger"
CONNECTION = "X-LS-Pipeline-Connection"
GENERATION = "X-LS-Pipeline-Generation"

NUMBER = re.compile(r"[0-9]{1,18}")

NOTE = {"X-LS-Pipeline-Note": "Do not edit: ls-pipeline uses this to know the project."}
"""A header for people who open the webhook."""

UNUSED = {
    "is_active": False,
    "send_payload": False,
    "send_for_all_actions": False,
    "actions": [],
}
"""The fields of a webhook that is never called."""


def marks(api: LabelStudioAPI, project_id: int = 0) -> list[Mark]:
    """List the marks of a project, or of all, as ``LabelingApp.marks`` says."""
    webhooks = list_webhooks(api, project_id)
    return sorted(filter(None, map(_mark, webhooks)), key=lambda mark: mark.id)


def add_mark(
    api: LabelStudioAPI, project_id: int, ledger: str, connection: str, generation: int
) -> Mark:
    """Create a mark, as ``LabelingApp.add_mark`` says."""
    mark = Mark(0, project_id, ledger, connection, generation)
    body = {**UNUSED, "project": project_id, "url": URL, "headers": _headers(mark)}

    def find() -> Webhook | None:
        webhooks = list_webhooks(api, project_id)
        return next((each for each in webhooks if _mark(each) == replace(mark, id=each.id)), None)

    try:
        webhook = created_or_found(lambda: api.parse(Webhook, "POST", PATH, json=body), find)
    except LabelStudioAccessError as error:
        api.json("GET", PATH, params={"project": project_id})  # raises if it is the key's fault
        raise LabelStudioError(
            f"Label Studio at {api.base_url} refuses a webhook to {URL}, in which ls-pipeline "
            "keeps the mark of the project.",
            hint="Remove the address from USER_ADDITIONAL_BANNED_SUBNETS of Label Studio. It "
            "never calls this webhook.",
        ) from error
    return _known(_mark(webhook), mark)


def raise_mark(api: LabelStudioAPI, mark: Mark, generation: int) -> Mark:
    """Set a mark's generation, as ``LabelingApp.raise_mark`` says."""
    _known(_read(api, mark), mark)
    raised = Mark(mark.id, mark.project_id, mark.ledger, mark.connection, generation)
    body = {**UNUSED, "headers": _headers(raised)}
    return _known(_mark(api.parse(Webhook, "PATCH", _path(mark), json=body)), mark)


def remove_mark(api: LabelStudioAPI, mark: Mark) -> None:
    """Remove a mark, as ``LabelingApp.remove_mark`` says."""
    with contextlib.suppress(ProjectNotFoundError):
        _known(_read(api, mark), mark)
        api.json("DELETE", _path(mark))


def _read(api: LabelStudioAPI, mark: Mark) -> Mark | None:
    found = those_of(Webhook, [api.json("GET", _path(mark))])
    return _mark(found[0]) if found else None


def _path(mark: Mark) -> str:
    return f"{PATH}{mark.id}/"


def _headers(mark: Mark) -> dict[str, str]:
    return {
        LEDGER: mark.ledger,
        CONNECTION: mark.connection,
        GENERATION: str(mark.generation),
        **NOTE,
    }


def _mark(webhook: Webhook) -> Mark | None:
    """Return the mark that a webhook holds; None for other webhooks."""
    headers, project_id = webhook.headers, webhook.project
    generation = headers.get(GENERATION, "")
    if not (project_id and {LEDGER, CONNECTION} <= set(headers) and NUMBER.fullmatch(generation)):
        return None
    return Mark(webhook.id, project_id, headers[LEDGER], headers[CONNECTION], int(generation))


def _known(found: Mark | None, mark: Mark) -> Mark:
    """Return the mark that was found, if it is this one but for its number and generation.

    Raises ``ProjectNotFoundError`` if it is another one, or none.
    """
    if found is None or _owner(found) != _owner(mark):
        raise ProjectNotFoundError(
            f"The mark {mark.id} of project {mark.project_id} in Label Studio is now something "
            "else."
        )
    return found


def _owner(mark: Mark) -> tuple[int, str, str]:
    return mark.project_id, mark.ledger, mark.connection
