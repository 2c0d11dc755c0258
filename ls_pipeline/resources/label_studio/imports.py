"""Imports of tasks, and what Label Studio says if it refuses some."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import (
    LabelStudioError,
    LabelStudioUnavailableError,
    TaskPartsLostError,
    TasksRefusedError,
)
from ls_pipeline.domain.notes import shorten
from ls_pipeline.resources.label_studio import answers
from ls_pipeline.resources.label_studio.http import SEE_LOG, LabelStudioAPI, detail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

IMPORT_COUNTS = {"annotations": "annotation_count", "predictions": "prediction_count"}
"""For each part of a task, the field of an import's answer that counts it."""

IMPORT_TIMEOUT_SECONDS = 600.0
"""100,000 tasks in one request took 12 s on an idle server."""


REPEATS_AFTER = 1.0
"""Seconds that ``DatabaseIsLockedRetryMiddleware`` waits; ``retry_database_locked`` waits 3."""


def import_tasks(
    api: LabelStudioAPI, project_id: int, tasks: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Import tasks as ``LabelingApp.import_tasks`` says.

    If its SQLite database was locked, Label Studio repeats the import on its own. Its
    ``retry_database_locked`` has lost the tasks' annotations and predictions by then. That and
    its ``DatabaseIsLockedRetryMiddleware`` may store the tasks twice.
    """
    texts, has_parts = [], False
    for task in tasks:
        texts.append(json.dumps(task))
        has_parts |= any(map(task.get, IMPORT_COUNTS))
    answer = _import(api, project_id, texts)
    ids = answer.task_ids or []
    if len(ids) != len(texts):
        raise LabelStudioUnavailableError(
            f"Label Studio at {api.base_url} returned {len(ids)} ids for {len(texts)} tasks.",
            hint=SEE_LOG,
        )
    if has_parts and all(getattr(answer, count) == 0 for count in IMPORT_COUNTS.values()):
        raise TaskPartsLostError(
            f"Label Studio stored {len(ids)} tasks without their predictions and annotations.",
            ids,
            hint="See its log: its database may have been locked.",
        )
    return ids


def _import(api: LabelStudioAPI, project_id: int, tasks: Sequence[str]) -> answers.Imported:
    answer = api.send(
        "POST",
        f"api/projects/{project_id}/import",
        params={"return_task_ids": "true", "commit_to_project": "true"},
        content=f"[{','.join(tasks)}]".encode(),
        headers={"Content-Type": "application/json"},
        timeout=IMPORT_TIMEOUT_SECONDS,
    )
    if answer.status_code in {400, 413, 500}:
        raise refusal(answer, len(tasks))
    if answer.is_client_error and answer.status_code != 404:  # noqa: PLR2004
        raise LabelStudioUnavailableError(
            f"Label Studio at {api.base_url} answered {answer.status_code} to an import: "
            f"{detail(answer)}",
            hint=SEE_LOG,
        )
    result = api.parsed(answers.Imported, answer)
    if result.task_ids is None:
        raise LabelStudioError(
            f"Label Studio at {api.base_url} imported {len(tasks)} tasks without returning "
            "their ids, as the Enterprise edition does. Only the Community edition is "
            "supported."
        )
    return result


def refusal(answer: httpx.Response, count: int) -> TasksRefusedError:
    """Return the error for an import that Label Studio refused, or over which it crashed.

    After a crash, what it stored is unknown: it commits the tasks before it updates counters,
    calls webhooks and summarizes the project (``tasks/serializers.py``, ``data_import/api.py``).
    The error names the refused tasks if Label Studio's answer has an entry for each task.
    """
    if answer.status_code == 413:  # noqa: PLR2004
        return TasksRefusedError(
            f"{count} tasks are too large for Label Studio, or for a server in front of it (413).",
            {},
            too_large=True,
            hint="Have it accept larger requests, as with nginx's client_max_body_size.",
        )
    try:
        entries = answer.json()["validation_errors"]["non_field_errors"]
    except (ValueError, KeyError, TypeError):
        entries = []
    reasons = {}
    if isinstance(entries, list) and len(entries) == count:
        # After " :: " the entry repeats the whole task.
        texts = {n: str(entry) for n, entry in enumerate(entries) if entry}
        reasons = {n: shorten(text.partition(" :: ")[0]) for n, text in texts.items()}
    message = f"Label Studio refused {count} tasks: {detail(answer)}"
    crashed = answer.status_code == 500  # noqa: PLR2004
    return TasksRefusedError(message, reasons, crashed=crashed)
