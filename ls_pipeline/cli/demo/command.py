"""``ls-pipeline demo``: the whole circle, on servers of its own."""

from __future__ import annotations

import json

import click

from ls_pipeline.cli.console import err

DEMO_EPILOG = """
\b
Examples:
  ls-pipeline demo                look around, until Ctrl-C
  ls-pipeline demo --once --json  the whole circle unattended, counted
"""


@click.command(epilog=DEMO_EPILOG, short_help="The whole circle, on servers of its own.")
@click.option("--once", is_flag=True, help="Label everything by script, count, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: the counts as last line.")
def demo(once: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Show the whole circle on servers of its own: an S3 and a GCS one, Label Studio, Dagster.

    Everything is made in a temporary folder, bound to loopback, and gone afterwards.
    """
    from ls_pipeline.cli.demo.demo import run_once, run_until_stopped  # slow

    if as_json and not once:
        raise click.UsageError("--json goes with --once.")
    try:
        if not once:
            run_until_stopped()
        counts = run_once()
    except KeyboardInterrupt:
        err.print("Everything is stopped.")
        return
    if as_json:
        click.echo(json.dumps({"connections": counts}))
