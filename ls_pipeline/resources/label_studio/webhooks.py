"""Label Studio's webhooks, which report new, edited and deleted annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ls_pipeline.domain.errors import (
    LabelStudioAccessError,
    LabelStudioError,
    ProjectNotFoundError,
)
from ls_pipeline.resources.label_studio.answers import Webhook, those_of
from ls_pipeline.resources.label_studio.http import Items, created_or_found
from ls_pipeline.resources.labeling_app import SECRET_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.label_studio.http import LabelStudioAPI

PATH = "api/webhooks/"
ACTIONS = ("ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "ANNOTATION_CREATED", "ANNOTATION_UPDATED")
"""The events that change a completion (``webhooks/models.py`` of Label Studio); sorted."""


def register_webhook(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> None:
    """Create or correct a webhook, as ``LabelingApp.register_webhook`` says."""
    webhook, registered = _webhook(address, secret), _registered(api, project_id, address, secret)
    if registered and _is_up_to_date(registered[0], webhook):
        return
    try:
        if registered:
            api.json("PATCH", f"{PATH}{registered[0].id}/", json=webhook)
        else:
            created_or_found(
                lambda: api.json("POST", PATH, json={**webhook, "project": project_id}),
                lambda: next(iter(_registered(api, project_id, address, secret)), None),
            )
    except LabelStudioAccessError as error:  # not because of the key: listing was allowed
        raise LabelStudioError(
            f"Label Studio at {api.base_url} refuses to call {address}, which is in a private "
            "network.",
            hint="Set LS_PIPELINE_WEBHOOK_URL to another address, or have Label Studio's server "
            "allow this one, as docs/notifications.md says.",
        ) from error


def has_webhook(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> bool:
    """Return whether `register_webhook` would change nothing."""
    registered = _registered(api, project_id, address, secret)
    return bool(registered) and _is_up_to_date(registered[0], _webhook(address, secret))


def list_webhooks(api: LabelStudioAPI, project_id: int = 0) -> list[Webhook]:
    """List the webhooks of a project, or of all.

    Raises ``ProjectNotFoundError`` if the project does not exist.
    """
    params = {"project": project_id} if project_id else None
    answer = api.send("GET", PATH, params=params)
    if project_id and answer.status_code == 400:  # noqa: PLR2004 - as its filter has it
        raise ProjectNotFoundError(
            f"Label Studio at {api.base_url} has no project {project_id}: it was deleted, or the "
            "API key's user can't see it."
        )
    return those_of(Webhook, api.parsed(Items, answer).root)


def _registered(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> list[Webhook]:
    """List the webhooks that call this address, or with our secret an earlier address of it."""
    webhooks = list_webhooks(api, project_id)
    return [webhook for webhook in webhooks if _is_ours(webhook, address, secret)]


def _webhook(address: str, secret: str) -> dict[str, Any]:
    return {
        "url": address,
        "headers": {SECRET_HEADER: secret},
        "actions": list(ACTIONS),
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
    }


def _is_ours(webhook: Webhook, address: str, secret: str) -> bool:
    if webhook.url == address:
        return True
    return webhook.headers == {SECRET_HEADER: secret} and _path(webhook.url) == _path(address)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _is_up_to_date(registered: Webhook, webhook: Mapping[str, Any]) -> bool:
    current = {**registered.model_dump(), "actions": sorted(registered.actions)}
    return all(current[name] == value for name, value in webhook.items())
