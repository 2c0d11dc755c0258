"""``ls-pipeline demo``: runs the pipeline on temporary servers with sample data."""

from __future__ import annotations

import click

from ls_pipeline.cli.console import err, print_json

EPILOG = """
\b
Examples:
  ls-pipeline demo                explore it until Ctrl-C
  ls-pipeline demo --once --json  label everything by script, count, and exit
"""


@click.command(epilog=EPILOG, short_help="Try everything on temporary servers.")
@click.option("--once", is_flag=True, help="Label everything by script, count, and exit.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --once: also print the counts as JSON.",
)
def demo(once: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Run the pipeline with sample data on temporary servers.

    It starts an S3 server, a GCS server, Label Studio and Dagster. They listen on loopback only.
    Everything is in a temporary folder, which is deleted at the end.
    """
    from ls_pipeline.cli.demo.demo import run_once, run_until_stopped  # slow

    if as_json and not once:
        raise click.UsageError("--json needs --once.")
    try:
        if not once:
            run_until_stopped()
        counts = run_once()
    except KeyboardInterrupt:
        err.print("Everything is stopped.")
        return
    if as_json:
        print_json({"connections": counts})
