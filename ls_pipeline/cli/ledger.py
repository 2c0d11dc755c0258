"""``ls-pipeline ledger``: migrates and copies the ledger."""

from __future__ import annotations

from functools import partial

import click

from ls_pipeline.cli.console import print_result, show_progress
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of, verbatim
from ls_pipeline.resources.ledger.copy import copy_ledger
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import NO_SCHEMA, own_schema

MIGRATE = verbatim("""
Example, with the new version, after a backup:
  ls-pipeline ledger migrate
""")

COPY = verbatim("""
Example, after stopping everything:
  ls-pipeline ledger copy --to postgresql+psycopg://labels@db.example.com/ledger
  export LS_PIPELINE_DATABASE_URL=postgresql+psycopg://labels@db.example.com/ledger
  ls-pipeline start
""")


EPILOG = verbatim("""
Examples:
  ls-pipeline ledger migrate
  ls-pipeline ledger copy --to postgresql+psycopg://labels@db.example.com/ledger
""")


@click.group(epilog=EPILOG, short_help="Migrate or copy the ledger.")
def ledger() -> None:
    """Migrate or copy the ledger, which records loaded objects, tasks and exports."""


@ledger.command(epilog=MIGRATE, short_help="Migrate the ledger to this version.")
@json_instead_of("a sentence")
def migrate(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Migrate the ledger to this version's schema, in one transaction.

    Every process migrates the ledger that it opens. On a cluster, run this once with the new
    version, before you upgrade the other processes. A migration can't be undone, so make a
    backup first.
    """
    before, now = CliContext().ledger.database.schema_before, own_schema()
    if before == now:
        sentence = f"The ledger already has schema {now}, so nothing was changed."
    elif before == NO_SCHEMA:
        sentence = f"The ledger was empty, and now has schema {now}."
    else:
        sentence = f"The ledger had schema {before}, and now has schema {now}."
    print_result({"before": before, "now": now}, sentence, as_json=as_json)


@ledger.command(epilog=COPY, short_help="Copy the ledger to another database.")
@click.option("--to", "url", metavar="URL", required=True, help="The URL of an empty database.")
@json_instead_of("a sentence")
def copy(url: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Copy the ledger to another database, for example PostgreSQL, in one transaction.

    The ledger in use does not change. Put the password in PGPASSWORD or ~/.pgpass rather than
    in the URL.
    """
    with show_progress() as progress:
        rows = copy_ledger(CliContext().ledger, Ledger(url), partial(progress.advance, "ledger"))
    copied = f"{sum(rows.values()):,} rows were copied."
    hint = "To use them, set LS_PIPELINE_DATABASE_URL to this URL."
    print_result({"rows": rows}, f"{copied} {hint}", as_json=as_json)
