"""``ls-pipeline doctor``: what every connection needs, tried."""

from __future__ import annotations

import json

import click

from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.doctor.report import show_findings
from ls_pipeline.cli.options import CONNECTIONS, FAILED, json_instead_of

DOCTOR_EPILOG = """
\b
Examples:
  ls-pipeline doctor                 what is in general, and all connections
  ls-pipeline doctor reviews --json  one of them, one JSON object on standard output

\b
It writes one small object to each target, and deletes it again.
"""


@click.command(epilog=DOCTOR_EPILOG, short_help="Try everything, and say what to do.")
@CONNECTIONS
@json_instead_of("a listing")
@click.pass_context
def doctor(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Try what connections need, and say what to do where it fails.

    Label Studio, sources, targets and blobs in the browser; with the smallest permissions that
    each connection needs. The exit code is 1 when anything failed.
    """
    from ls_pipeline.cli.doctor.checks import examine  # seconds of imports

    report = examine(names, CliContext(impatient=True))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        show_findings(report)
    if report.failed:
        ctx.exit(FAILED)
