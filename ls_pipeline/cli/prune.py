"""``ls-pipeline prune``: let go of what Dagster remembers of old runs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg

EPILOG = """
\b
Examples:
  ls-pipeline prune             runs that ended more than 30 days ago
  ls-pipeline prune --days 7    a shorter memory
"""

PAGE = 1000
"""Runs read at once."""


@click.command(epilog=EPILOG, short_help="Let go of what Dagster remembers of old runs.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="Keep runs that ended within so many days.",
)
@json_instead_of("a sentence")
def prune(days: int, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Delete Dagster's record of runs that ended so many days ago: their events and logs.

    The newest run of each kind is kept for each connection, so that Dagster goes on showing how
    all of them stand. Nothing but history is lost: the ledger is not touched.
    """
    instance = CliContext().known_instance
    before = datetime.now(timezone.utc) - timedelta(days=days)
    gone = 0
    for run_id in list(_old(instance, before.timestamp())):
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        gone += 1
    if as_json:
        click.echo(json.dumps({"runs": gone}))
        return
    print_lines(f"{gone:,} runs are deleted from Dagster's history.")


def _old(instance: dg.DagsterInstance, before: float) -> Iterator[str]:
    """Give the ids of the runs that ended before a time, but for the newest of each kind."""
    newest: set[object] = set()
    for record in _ended(instance):
        run = record.dagster_run
        assets = frozenset(run.asset_selection or ())
        kind = run.job_name, assets, run.tags.get("dagster/partition")
        if kind in newest and (record.end_time or 0.0) < before:
            yield run.run_id
        newest.add(kind)


def _ended(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """List the runs that have ended, the newest first."""
    import dagster as dg  # as in `CliContext.instance`

    ended = [
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    ]
    cursor = None
    while True:
        page = instance.get_run_records(dg.RunsFilter(statuses=ended), limit=PAGE, cursor=cursor)
        yield from page
        if len(page) < PAGE:
            return
        cursor = page[-1].dagster_run.run_id
