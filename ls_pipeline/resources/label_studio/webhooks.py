"""Label Studio's webhooks, with which it says that somebody labeled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ls_pipeline.domain.errors import LabelStudioAccessError, LabelStudioError
from ls_pipeline.resources.labeling_app import SECRET_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.label_studio.http import LabelStudioAPI

PATH = "api/webhooks/"
LABELED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
"""The actions that change a completion."""


def register_webhook(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> None:
    """See to a webhook, as ``LabelingApp.register_webhook`` says."""
    wanted, mine = _webhook(address, secret), _ours(api, project_id, address, secret)
    if mine and _is_as(wanted, mine[0]):
        return
    try:
        if mine:
            api.json("PATCH", f"{PATH}{mine[0]['id']}/", json=wanted)
        else:
            api.json("POST", PATH, json={**wanted, "project": project_id})
    except LabelStudioAccessError as error:  # the listing was allowed
        raise LabelStudioError(
            f"Label Studio at {api.base_url} refuses to call {address}, which is in an inner "
            "network; set LS_PIPELINE_WEBHOOK_URL to another address, or have its server let "
            "this one pass, as docs/notifications.md says."
        ) from error


def has_webhook(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> bool:
    """Tell whether `register_webhook` has nothing to do."""
    mine = _ours(api, project_id, address, secret)
    return bool(mine) and _is_as(_webhook(address, secret), mine[0])


def _ours(api: LabelStudioAPI, project_id: int, address: str, secret: str) -> list[dict[str, Any]]:
    """List those of ours: that call this address, or with our secret called an earlier one."""
    there = api.json("GET", PATH, params={"project": project_id})
    return [one for one in there if _leads_to(address, secret, one)]


def _webhook(address: str, secret: str) -> dict[str, Any]:
    return {
        "url": address,
        "headers": {SECRET_HEADER: secret},
        "actions": sorted(LABELED),
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
    }


def _leads_to(address: str, secret: str, webhook: Mapping[str, Any]) -> bool:
    if webhook["url"] == address:
        return True
    same_end = urlsplit(webhook["url"]).path == urlsplit(address).path
    return same_end and bool(webhook["headers"] == {SECRET_HEADER: secret})


def _is_as(wanted: Mapping[str, Any], webhook: Mapping[str, Any]) -> bool:
    there = {**webhook, "actions": sorted(webhook["actions"])}
    return all(there[name] == wanted[name] for name in wanted)
