"""Tasks that an earlier ledger made: where it was lost, or is an old copy, they are taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.engine.import_queue import BATCH_ROWS
from ls_pipeline.engine.projects import ours_above
from ls_pipeline.resources.ledger.records import LoadedRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease


def adopt(
    account: Account, lease: Lease, bucket: Bucket, projects: Projects, *, several: bool
) -> int:
    """Record a connection's tasks that are newer than its ledger; give how many it did not know.

    ``several``: a replaced object gets a new task beside the old one.
    """
    taken = 0
    for project_id, seen in account.seen().items():
        highest = projects.app.highest_task_id(project_id)
        if highest > seen:
            there = _newest(bucket, projects, project_id, seen)
            news = list(_unknown(account, there, several=several))
            if news:
                account.record(lease, loaded=news)
            account.set_seen(lease, project_id, highest)
            taken += len(news)
    return taken


def _newest(bucket: Bucket, projects: Projects, project_id: int, above: int) -> list[LoadedRow]:
    """Give the bucket's rows that have tasks above an id, each with the newest of them."""
    root = bucket.uri()
    found: dict[tuple[str, int], LoadedRow] = {}
    for number, origin in ours_above(projects.app, projects.account, project_id, above):
        if origin.uri.startswith(root):
            key = origin.uri[len(root) :]
            found[key, origin.row] = LoadedRow(key, origin.row, origin.version, "", number)
    return list(found.values())


def _unknown(account: Account, rows: Sequence[LoadedRow], *, several: bool) -> Iterator[LoadedRow]:
    """Choose the rows of which the ledger knows no task, or not the newest of several."""
    for start in range(0, len(rows), BATCH_ROWS):
        some = rows[start : start + BATCH_ROWS]
        known = account.rows_of_all([row.key for row in some])
        for row in some:
            one = known[row.key].get(row.row)
            if one is None or (several and _follows(row, one)):
                yield row


def _follows(row: LoadedRow, known: LoadedRow) -> bool:
    """Tell whether a task is the new one that a replaced object got beside its old one."""
    return row.version != known.version and row.task_id > known.task_id
