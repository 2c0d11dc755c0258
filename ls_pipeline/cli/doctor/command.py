"""``ls-pipeline doctor``: checks everything that a connection needs."""

from __future__ import annotations

import click

from ls_pipeline.cli.console import print_json
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.doctor.report import print_report
from ls_pipeline.cli.options import CONNECTIONS, FAILED, json_instead_of

EPILOG = """
\b
Examples:
  ls-pipeline doctor                 all connections
  ls-pipeline doctor reviews --json  one connection, one JSON object on standard output

\b
It writes a small object to each target, and deletes it again.
"""


@click.command(epilog=EPILOG, short_help="Check everything that connections need.")
@CONNECTIONS
@json_instead_of("a listing")
@click.pass_context
def doctor(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Check everything that connections need, and print how to repair what fails.

    It checks Label Studio, sources, targets, and whether browsers can open objects. It also
    prints the minimum permissions of each connection. If a check fails, the exit code is 1.
    """
    from ls_pipeline.cli.doctor.checks import examine  # slow

    report = examine(names, CliContext(impatient=True))
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report)
    if report.failed:
        ctx.exit(FAILED)
