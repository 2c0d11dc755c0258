"""``ls-pipeline``: start, connections, sync, status, export, doctor, webhooks, demo."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.connections.commands import FILE, connections, from_flags, side_options
from ls_pipeline.cli.console import (
    err,
    out,
    print_error,
    print_lines,
    show_counts,
    show_findings,
    show_progress,
)
from ls_pipeline.cli.context import CliContext, end_on_signals
from ls_pipeline.cli.export import export
from ls_pipeline.cli.ledger import ledger
from ls_pipeline.cli.options import CONNECTIONS, json_instead_of
from ls_pipeline.cli.prune import prune
from ls_pipeline.cli.quarantine import quarantine
from ls_pipeline.cli.status import status
from ls_pipeline.domain.errors import (
    ConnectionFaults,
    ConnectionsFileError,
    NotInQuarantineError,
    PipelineError,
    UnknownConnectionError,
)

MISUSES = (ConnectionFaults, ConnectionsFileError, NotInQuarantineError, UnknownConnectionError)

if TYPE_CHECKING:
    from pathlib import Path

FAILED, MISUSED = 1, 2
"""Exit codes: something failed; the command line is wrong, and nothing was done."""

PORT = click.IntRange(1, 65535)

EPILOG = """
\b
Examples:
  ls-pipeline demo             see it run, on servers of its own
  ls-pipeline start --init --source s3 --source-path my-bucket
  ls-pipeline status --watch   how all connections stand

\b
Label Studio:   LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY; LABEL_STUDIO_PUBLIC_URL for links,
                LABEL_STUDIO_GOOGLE_CREDENTIALS for it to sign gs:// URLs
S3:             AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and the other AWS_* variables
GCS:            GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST
Webhooks:       LS_PIPELINE_WEBHOOK_URL, LS_PIPELINE_WEBHOOK_SECRET
Sensors:        LS_PIPELINE_POLL_SECONDS (30), LS_PIPELINE_NOTIFICATION_SECONDS (4)
Own state:      LS_PIPELINE_HOME (.ls_pipeline here), LS_PIPELINE_DATABASE_URL

\b
Exit codes:     0 done; 1 something failed; 2 the command line is wrong, nothing was done

\b
Completion:     eval "$(_LS_PIPELINE_COMPLETE=bash_source ls-pipeline)" in ~/.bashrc; zsh_source
                in ~/.zshrc; fish_source in ~/.config/fish/config.fish, piped to `source`

\b
Colours:        on a terminal only; NO_COLOR=1 for none
"""


class Cli(click.Group):
    """Turns our errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MISUSES as error:
            _fail(ctx, error, MISUSED)
        except PipelineError as error:
            _fail(ctx, error, FAILED)
        except OSError as error:
            if not error.filename:
                raise
            _fail(ctx, PipelineError(f"{error.filename}: {error.strerror}."), FAILED)


def _fail(ctx: click.Context, error: PipelineError, code: int) -> None:
    print_error(f"Error: {error}")
    ctx.exit(code)


@click.group(cls=Cli, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ls-pipeline")
def main() -> None:
    """Turn objects of S3 and GCS buckets into Label Studio tasks, and write the labels back."""


main.add_command(connections)
main.add_command(quarantine)
main.add_command(export)
main.add_command(ledger)
main.add_command(prune)
main.add_command(status)

START_EPILOG = """
\b
Examples:
  JSON tasks from a bucket:
    ls-pipeline start --init --source s3 --source-path my-bucket
  Pictures, sound or video, shown by their URL:
    ls-pipeline start --init --source gcs --source-path my-bucket \\
      --source-params '{"data_key": "image", "use_blob_urls": true}'
  Labels written to a bucket:
    ls-pipeline start --init --target s3-completions --target-path my-labels
  Many connections, from a file kept in git:
    ls-pipeline start --connections connections.yaml
  Go on where it was:
    ls-pipeline start
"""


@main.command(epilog=START_EPILOG, short_help="Run everything: Dagster, Label Studio, sensors.")
@click.option("--init", is_flag=True, help="Make a connection, in a home that has none.")
@side_options
@click.option("--name", help="The connection's name [the bucket's].")
@click.option("--connections", "file", metavar="FILE", type=FILE, help="YAML of connections.")
@click.option("--home", metavar="DIR", help="Where its state is kept [.ls_pipeline].")
@click.option("--force", is_flag=True, help="With --init: put an existing state aside.")
@click.option("--port", type=PORT, help="Dagster's port [3000, or a free one].")
@click.option("--label-studio-port", type=PORT, help="Label Studio's [8080, or a free one].")
@click.option("--webhooks-port", type=PORT, help="The webhook receiver's [3001, or a free one].")
def start(  # noqa: PLR0913 - one for each flag
    *,
    init: bool,
    name: str | None,
    file: Path | None,
    home: str | None,
    force: bool,
    port: int | None,
    label_studio_port: int | None,
    webhooks_port: int | None,
    **flags: Any,
) -> None:
    """Run Dagster with its sensors, and a Label Studio unless LABEL_STUDIO_URL points at one.

    Everything is bound to loopback, and runs until Ctrl-C. A connection that exists is changed
    in Dagster, or with `ls-pipeline connections add`.
    """
    from ls_pipeline.cli import start as starting  # slow

    sides = flags["source"] or flags["target"]
    if sides and not init:
        raise click.UsageError(
            "--source and --target go with --init; a connection that exists is changed in "
            "Dagster, or with `ls-pipeline connections add`."
        )
    if init and not sides and not file:
        raise click.UsageError("--init needs --source, --target or --connections.")
    if force and not init:
        raise click.UsageError("--force goes with --init.")
    if home:
        os.environ["LS_PIPELINE_HOME"] = home
    bucket = flags["source_path"] or flags["target_path"]
    one = from_flags(name or bucket.replace(".", "-"), **flags) if sides else None
    try:
        ports = (port, label_studio_port, webhooks_port)
        starting.start(starting.Wanted(init, force, one, file, *ports))
    except KeyboardInterrupt:
        err.print("Everything is stopped.")


SYNC_EPILOG = """
\b
Examples:
  ls-pipeline sync                      all connections
  ls-pipeline sync reviews cats --json  two of them, one JSON object on standard output
"""


@main.command(epilog=SYNC_EPILOG, short_help="One complete pass, in the foreground.")
@CONNECTIONS
@json_instead_of("a table")
@click.pass_context
def sync(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Make one complete pass in the foreground: load new tasks, export finished labels.

    One connection's failure holds up no other; the exit code is 1 when any failed.
    """
    from ls_pipeline.cli.sync import run_connection  # seconds of imports

    end_on_signals()
    cli = CliContext()
    wanted = names or tuple(cli.ledger.names())
    for name in wanted:
        cli.ledger.account(name)  # all names are right, or nothing is done
    with show_progress() as shown:
        reports = {name: run_connection(name, cli, shown) for name in dict.fromkeys(wanted)}
    if as_json:
        click.echo(json.dumps({"connections": reports}))
    elif reports:
        show_counts(reports)
    else:
        out.print("There are no connections yet; see ls-pipeline connections add --help.")
    if any("error" in report for report in reports.values()):
        ctx.exit(FAILED)


DOCTOR_EPILOG = """
\b
Examples:
  ls-pipeline doctor                 what is in general, and all connections
  ls-pipeline doctor reviews --json  one of them, one JSON object on standard output

\b
It writes one small object to each target, and deletes it again.
"""


@main.command(epilog=DOCTOR_EPILOG, short_help="Try everything, and say what to do.")
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


WEBHOOKS_EPILOG = """
\b
Examples:
  ls-pipeline webhooks                              for a Label Studio on this machine
  LS_PIPELINE_WEBHOOK_URL=https://labels.example.com/hooks ls-pipeline webhooks --port 3001
                                                    behind a proxy that ends TLS

\b
The secret that Label Studio shows is LS_PIPELINE_WEBHOOK_SECRET, else in the home. Each pass
registers LS_PIPELINE_WEBHOOK_URL in its project: set both where Dagster runs, too.
"""


@main.command(epilog=WEBHOOKS_EPILOG, short_help="Hear from Label Studio of new labels.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=PORT, default=3001, show_default=True, help="The port.")
def webhooks(host: str, port: int) -> None:
    """Receive Label Studio's webhooks, so that labels are exported within seconds.

    `ls-pipeline start` does so by itself for the Label Studio that it runs.
    """
    from ls_pipeline.cli.servers.server import chosen_port
    from ls_pipeline.cli.webhooks import serve  # what it serves with
    from ls_pipeline.resources.environment import webhook_secret

    ledger, port = CliContext().ledger, chosen_port(port, port, host)
    shown = f"[{host}]" if ":" in host else host
    print_lines(f"Webhooks are received at http://{shown}:{port}", "Ctrl-C stops it.")
    try:
        serve(ledger, webhook_secret(), host, port)
    except KeyboardInterrupt:
        err.print("The receiver is stopped.")


DEMO_EPILOG = """
\b
Examples:
  ls-pipeline demo                look around, until Ctrl-C
  ls-pipeline demo --once --json  the whole circle unattended, counted
"""


@main.command(epilog=DEMO_EPILOG, short_help="The whole circle, on servers of its own.")
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
