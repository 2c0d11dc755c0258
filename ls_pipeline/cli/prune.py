"""``ls-pipeline prune``: deletes old runs from Dagster's history."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_result
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of, verbatim

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg

EPILOG = verbatim("""
Examples:
  ls-pipeline prune             delete runs that ended more than 30 days ago
  ls-pipeline prune --days 7    delete runs that ended more than a week ago
""")

PAGE = 1000
"""Runs read with one query."""


@click.command(epilog=EPILOG, short_help="Delete old runs from Dagster's history.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="Keep runs that ended within this number of days.",
)
@json_instead_of("a sentence")
def prune(days: int, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Delete the events and logs of old runs from Dagster's history.

    The newest run of each kind is kept for each connection, so that Dagster still shows the
    state of all connections. The ledger is not changed.
    """
    instance = CliContext().known_instance
    before = datetime.now(timezone.utc) - timedelta(days=days)
    run_ids = list(_old_runs(instance, before.timestamp()))
    for run_id in run_ids:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    sentence = f"{len(run_ids):,} runs were deleted from Dagster's history."
    print_result({"runs": len(run_ids)}, sentence, as_json=as_json)


def _old_runs(instance: dg.DagsterInstance, before: float) -> Iterator[str]:
    """Yield the ids of runs that ended before a time, except the newest run of each kind."""
    newest: set[object] = set()
    for record in _ended_runs(instance):
        run = record.dagster_run
        assets = frozenset(run.asset_selection or ())
        kind = run.job_name, assets, run.tags.get("dagster/partition")
        if kind in newest and (record.end_time or 0.0) < before:
            yield run.run_id
        newest.add(kind)


def _ended_runs(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Yield the runs that have ended, the newest first."""
    import dagster as dg  # slow

    status = dg.DagsterRunStatus
    ended = dg.RunsFilter(statuses=[status.SUCCESS, status.FAILURE, status.CANCELED])
    cursor = None
    while True:
        page = instance.get_run_records(ended, limit=PAGE, cursor=cursor)
        yield from page
        if len(page) < PAGE:
            return
        cursor = page[-1].dagster_run.run_id
