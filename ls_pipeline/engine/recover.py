"""Recovers tasks that an earlier ledger made, if this one is new or was restored from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.engine.import_queue import BATCH_ROWS
from ls_pipeline.resources.ledger.records import LedgerUpdate, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.engine.context import RunContext


def recover_tasks(run: RunContext) -> int:
    """Record the connection's tasks that are newer than its ledger; return how many those are."""
    recovered = 0
    for project_id, seen in run.held.projects.seen().items():
        highest = run.app.highest_task_id(project_id)
        if highest > seen:
            unknown = list(_unknown(run, _newest_rows(run, project_id, seen)))
            if unknown:
                run.held.imports.record(LedgerUpdate(loaded=unknown))
            run.held.projects.set_seen(project_id, highest)
            recovered += len(unknown)
    return recovered


def _newest_rows(run: RunContext, project_id: int, above: int) -> list[TaskRow]:
    """Return the bucket's rows that have tasks above an id, each with the newest of them."""
    root = run.bucket.uri()
    rows: dict[tuple[str, int], TaskRow] = {}
    for task_id, origin in run.projects.origins_above(project_id, above):
        if origin.uri.startswith(root):
            key = origin.uri[len(root) :]
            rows[key, origin.row] = TaskRow(key, origin.row, origin.version, "", task_id)
    return list(rows.values())


def _unknown(run: RunContext, rows: Sequence[TaskRow]) -> Iterator[TaskRow]:
    """Return the rows whose task the ledger doesn't know, or whose newest of several tasks."""
    has_several = not run.source.params.one_task_per_row
    for start in range(0, len(rows), BATCH_ROWS):
        some = rows[start : start + BATCH_ROWS]
        known_rows = run.held.objects.rows_of_all([row.key for row in some])
        for row in some:
            known = known_rows[row.key].get(row.row)
            if known is None or (has_several and _follows(row, known)):
                yield row


def _follows(row: TaskRow, known: TaskRow) -> bool:
    """Return whether a task is the new one that a replaced object got beside its old one."""
    return row.version != known.version and row.task_id > known.task_id
