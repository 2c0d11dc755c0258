"""Queries of Label Studio's Data Manager, page by page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.errors import AnswerTooLargeError, LabelStudioError
from ls_pipeline.resources.label_studio import answers
from ls_pipeline.resources.label_studio.client import MOST_BYTES
from ls_pipeline.resources.label_studio.http import SEE_LOG, LabelStudioAPI

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TaskT = TypeVar("TaskT", bound=answers.TaskRow)

LARGEST_PAGE = 32 * 2**20
"""Bytes of an answer with several tasks. In memory they may take ten times as much."""

IDS = 100
"""Task ids in one request. They travel in the URL, which stays short enough for any proxy."""

SMALLER_PAGE = 8
"""How many times fewer tasks an answer gets after one that was too large."""


def tasks(
    api: LabelStudioAPI,
    kind: type[TaskT],
    project_id: int,
    conditions: Sequence[Mapping[str, Any]],
    page_size: int,
    above: int = 0,
    **params: str,
) -> Iterator[TaskT]:
    """List tasks by id. Each page starts after the last id, so that changes shift no page.

    If a page is too large to be read, the following ones have fewer tasks.
    """
    while True:
        wanted = filters([*conditions, condition("id", "greater", above, "Number")])
        query = {**wanted, "ordering": ["tasks:id"]}
        try:
            found = page(api, kind, project_id, query, page_size, **params)
        except AnswerTooLargeError:
            if page_size == 1:
                raise
            page_size = max(page_size // SMALLER_PAGE, 1)
            continue
        yield from found.tasks
        if len(found.tasks) < page_size or len(found.tasks) == found.total:
            return
        above = next_after(api, above, found.tasks)


def next_after(
    api: LabelStudioAPI, last: int, rows: Sequence[answers.TaskRow | answers.ProjectRow]
) -> int:
    """Return the last id of a page. Raises ``LabelStudioError`` if it is not above ``last``."""
    if not rows or rows[-1].id <= last:
        raise LabelStudioError(
            f"Label Studio at {api.base_url} lists the same page again and again.",
            hint=SEE_LOG,
        )
    return rows[-1].id


def page(
    api: LabelStudioAPI,
    kind: type[TaskT],
    project_id: int,
    query: Mapping[str, Any],
    page_size: int,
    **params: str,
) -> answers.TaskPage[TaskT]:
    """Return the first page of a query of the Data Manager."""
    params = {
        "project": str(project_id),
        "query": json.dumps(query),
        "page_size": str(page_size),
        "resolve_uri": "false",  # otherwise s3:// URLs become links into Label Studio
        **params,
    }
    form: Any = answers.TaskPage[kind]  # type: ignore[valid-type]
    bound = {MOST_BYTES: str(LARGEST_PAGE)} if page_size > 1 else {}
    result: answers.TaskPage[TaskT] = api.parse(
        form, "GET", "api/tasks/", params=params, headers=bound
    )
    return result


def changed(since: str) -> list[dict[str, Any]]:
    """Return the condition that a task changed at or after ``since``; none if it is empty."""
    return [condition("updated_at", "greater_or_equal", since, "Datetime")] if since else []


def id_conditions(ids: Sequence[int], most: int) -> Iterator[dict[str, Any]]:
    """Return the conditions that select tasks with ascending ids, at most that many at once.

    Many consecutive ids are selected by the first and the last of them.
    """
    if len(ids) > IDS and ids[-1] - ids[0] == len(ids) - 1:
        for batch in batches(ids, most):
            yield condition("id", "in", {"min": batch[0], "max": batch[-1]}, "Number")
    else:
        for batch in batches(ids, IDS):
            yield condition("id", "in_list", batch, "Number")


def filters(conditions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the part of a query that selects the tasks with all of these conditions."""
    return {"filters": {"conjunction": "and", "items": conditions}}


def condition(column: str, operator: str, value: object, kind: str) -> dict[str, Any]:
    """Return a condition on a column of the Data Manager, which has values of this kind."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
