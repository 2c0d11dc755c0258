"""``ls-pipeline ledger``: where our own record is kept."""

from __future__ import annotations

import click

from ls_pipeline.cli.outside import Outside
from ls_pipeline.cli.screen import bars, say
from ls_pipeline.resources.ledger import Ledger
from ls_pipeline.resources.ledger_copy import copy_ledger

EPILOG = """
\b
Example, with everything stopped:
  ls-pipeline ledger copy --to postgresql+psycopg://labels@db.example.com/ledger
  export LS_PIPELINE_DATABASE_URL=postgresql+psycopg://labels@db.example.com/ledger
  ls-pipeline start
"""


@click.group(short_help="Where our own record is kept.")
def ledger() -> None:
    """Move the ledger: which object became which task, and what was exported."""


@ledger.command(epilog=EPILOG, short_help="Copy the ledger to another database.")
@click.option("--to", "url", metavar="URL", required=True, help="An empty database.")
def copy(url: str) -> None:
    """Copy the ledger to another database, as from SQLite to PostgreSQL, whole or not at all.

    The ledger that LS_PIPELINE_DATABASE_URL names, or the home's, stays as it is. A password is
    best left to PGPASSWORD or ~/.pgpass.
    """
    with bars() as shown:
        copied = copy_ledger(
            Outside().ledger, Ledger(url), lambda *told: shown.advance("ledger", *told)
        )
    total = sum(copied.values())
    say(f"{total:,} rows are copied: set LS_PIPELINE_DATABASE_URL to this URL, and go on there.")
