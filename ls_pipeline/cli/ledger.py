"""``ls-pipeline ledger``: where our own record is kept."""

from __future__ import annotations

import json

import click

from ls_pipeline.cli.console import print_lines, show_progress
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of
from ls_pipeline.resources.ledger.copy import copy_ledger
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import NO_SCHEMA, own_schema

MIGRATE = """
\b
Example, with the new version installed, and a backup made:
  ls-pipeline ledger migrate
"""

COPY = """
\b
Example, with everything stopped:
  ls-pipeline ledger copy --to postgresql+psycopg://labels@db.example.com/ledger
  export LS_PIPELINE_DATABASE_URL=postgresql+psycopg://labels@db.example.com/ledger
  ls-pipeline start
"""


@click.group(short_help="Where our own record is kept.")
def ledger() -> None:
    """Move the ledger, or bring it forward: which object became which task, what was exported."""


@ledger.command(epilog=MIGRATE, short_help="Bring the ledger to this version's tables.")
@json_instead_of("a sentence")
def migrate(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Bring the ledger to this version's tables, whole or not at all, and say what was done.

    Whatever opens a ledger does the same; for a cluster it is better done once, before the
    upgrade. There is no way back: make a backup first.
    """
    before, now = CliContext().ledger.schema_before, own_schema()
    if as_json:
        click.echo(json.dumps({"before": before, "now": now}))
    elif before == now:
        print_lines(f"The ledger has schema {now} already, this version's own: nothing was done.")
    elif before == NO_SCHEMA:
        print_lines(f"The ledger, which had no number yet, has schema {now} now.")
    else:
        print_lines(f"The ledger had schema {before}, and has {now} now.")


@ledger.command(epilog=COPY, short_help="Copy the ledger to another database.")
@click.option("--to", "url", metavar="URL", required=True, help="An empty database.")
@json_instead_of("a sentence")
def copy(url: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Copy the ledger to another database, as from SQLite to PostgreSQL, whole or not at all.

    The ledger that LS_PIPELINE_DATABASE_URL names, or the home's, stays as it is. A password is
    best left to PGPASSWORD or ~/.pgpass.
    """
    with show_progress() as shown:
        copied = copy_ledger(
            CliContext().ledger, Ledger(url), lambda *told: shown.advance("ledger", *told)
        )
    if as_json:
        click.echo(json.dumps({"rows": copied}))
        return
    total = sum(copied.values())
    print_lines(
        f"{total:,} rows are copied: set LS_PIPELINE_DATABASE_URL to this URL, and go on there."
    )
