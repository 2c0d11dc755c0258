"""``ls-pipeline``: connections, sync, doctor, demo."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from ls_pipeline.cli.outside import Outside
from ls_pipeline.cli.screen import bars, err, out, show_counts, show_findings
from ls_pipeline.connections import Connection, connection, params_from_json
from ls_pipeline.domain.errors import ConnectionFaults, PipelineError, UnknownConnectionError

FAILED, MISUSED = 1, 2
"""Exit codes: something failed; the command line is wrong, and nothing was done."""

EPILOG = """
\b
Label Studio:   LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY
S3:             AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and the other AWS_* variables
GCS:            GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST
Own state:      LS_PIPELINE_HOME (.ls_pipeline here), LS_PIPELINE_DATABASE_URL
\b
Exit codes:     0 done; 1 something failed; 2 the command line is wrong, nothing was done
"""


class Cli(click.Group):
    """Turns our errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ConnectionFaults, UnknownConnectionError) as error:
            _fail(ctx, error, MISUSED)
        except PipelineError as error:
            _fail(ctx, error, FAILED)


def _fail(ctx: click.Context, error: PipelineError, code: int) -> None:
    err.print(f"Error: {error}", style="red", soft_wrap=True, markup=False, highlight=False)
    ctx.exit(code)


@click.group(cls=Cli, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ls-pipeline")
def main() -> None:
    """Turn objects of S3 and GCS buckets into Label Studio tasks, and write the labels back."""


@main.group(short_help="Which bucket feeds which project, and where its labels go.")
def connections() -> None:
    """Manage connections: which bucket feeds which project, and where its labels go."""


ADD_EPILOG = """
\b
Examples:
  JSON tasks from a folder, labels to another bucket:
    ls-pipeline connections add reviews --project Reviews --label-config reviews.xml \\
      --source s3 --source-path my-bucket --source-params '{"prefix": "incoming"}' \\
      --target s3-completions --target-path my-labels
  Pictures, shown by their URL, labels to another cloud:
    ls-pipeline connections add cats --project Cats --label-config cats.xml \\
      --source gcs --source-path my-pictures --source-params '{"use_blob_urls": true}' \\
      --target s3-completions --target-path my-labels --target-params '{"prefix": "cats"}'
\b
Source params:  prefix, regex, data_key, use_blob_urls
Target params:  prefix, regex
"""


@connections.command(epilog=ADD_EPILOG)
@click.argument("name")
@click.option("--source", metavar="s3|gcs", help="Where tasks come from.")
@click.option("--source-path", metavar="BUCKET", default="", help="The source bucket's name.")
@click.option("--source-params", metavar="JSON", default="{}", help="How objects become tasks.")
@click.option("--target", metavar="s3-completions|gcs-completions", help="Where labels go.")
@click.option("--target-path", metavar="BUCKET", default="", help="The target bucket's name.")
@click.option("--target-params", metavar="JSON", default="{}", help="Where in the target.")
@click.option("--project", metavar="TITLE", help="Label Studio project, made if absent [NAME].")
@click.option(
    "--label-config",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What a new project is made with: XML.",
)
def add(  # noqa: PLR0913, PLR0917 - one for each flag
    name: str,
    source: str | None,
    source_path: str,
    source_params: str,
    target: str | None,
    target_path: str,
    target_params: str,
    project: str | None,
    label_config: Path | None,
) -> None:
    """Store a connection, or new params of one that exists."""
    faults: list[str] = []
    one = connection(
        name,
        source=_part("source", source, source_path, source_params, faults),
        target=_part("target", target, target_path, target_params, faults),
        project=name if project is None else project,
        label_config=_text(label_config, faults) if label_config else "",
        faults=faults,
    )
    number = Outside().ledger.save(one, getpass.getuser())
    out.print(f"Connection {name!r} is stored, revision {number}.", highlight=False)


def _text(file: Path, faults: list[str]) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"--label-config {file} can't be read: {error}.")
        return ""


def _part(
    side: str, kind: str | None, path: str, params: str, faults: list[str]
) -> dict[str, Any] | None:
    given = params_from_json(f"--{side}-params", params, faults)
    if kind is None:
        if path or given:
            faults.append(f"--{side}-path and --{side}-params need --{side}.")
        return None
    return {"type": kind, "path": path, "params": given}


@connections.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def list_(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the connections."""
    ledger = Outside().ledger
    found = [ledger.connection(name) for name in ledger.names()]
    if as_json:
        click.echo(json.dumps({"connections": {one.name: _plain(one) for one in found}}))
        return
    table = Table("Connection", "Source", "Target", "Project")
    for one in found:
        table.add_row(one.name, _place(one.source), _place(one.target), one.project)
    out.print(table if found else "There are none yet; see ls-pipeline connections add --help.")


def _place(part: Any) -> str:
    return f"{part.type}: {part.path}/{part.params.prefix}".rstrip("/") if part else ""


@connections.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a connection as JSON: its params in force, who stored them, and how it goes."""
    account = Outside().ledger.account(name)
    revision = account.revision()
    works = {work: account.health(work) for work in ("tasks", "completions")}
    shown = {
        **_plain(revision.connection),
        "revision": revision.number,
        "saved_by": revision.saved_by,
        "failures": {work: health.failure for work, health in works.items() if health.failures},
    }
    click.echo(json.dumps(shown, indent=2))


def _plain(one: Connection) -> dict[str, Any]:
    return one.model_dump(mode="json")


@connections.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take a connection out of use.

    Objects, tasks and labels stay as they are. Added again with the same source bucket and
    project, it goes on where it stopped.
    """
    Outside().ledger.remove(name)
    out.print(f"Connection {name!r} is removed.", highlight=False)


SYNC_EPILOG = """
\b
Examples:
  ls-pipeline sync                      all connections
  ls-pipeline sync reviews cats --json  two of them, one JSON object on standard output
"""


@main.command(epilog=SYNC_EPILOG, short_help="One complete pass, in the foreground.")
@click.argument("names", metavar="[CONNECTION]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def sync(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Make one complete pass in the foreground: load new tasks, export finished labels.

    One connection's failure holds up no other; the exit code is 1 when any failed.
    """
    from ls_pipeline.cli.passes import pass_over  # noqa: PLC0415 - seconds of imports

    outside = Outside()
    wanted = names or tuple(outside.ledger.names())
    for name in wanted:
        outside.ledger.account(name)  # all names are right, or nothing is done
    with bars() as shown:
        reports = {name: pass_over(name, outside, shown) for name in dict.fromkeys(wanted)}
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
@click.argument("names", metavar="[CONNECTION]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a listing.")
@click.pass_context
def doctor(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Try what connections need, and say what to do where it fails.

    Label Studio, sources, targets and blobs in the browser; with the smallest permissions that
    each connection needs. The exit code is 1 when anything failed.
    """
    from ls_pipeline.cli.doctor import examine  # noqa: PLC0415 - seconds of imports

    report = examine(names, Outside.impatient())
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        show_findings(report)
    if report.failed:
        ctx.exit(FAILED)


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
    from ls_pipeline.cli.demo import run_once, run_until_stopped  # noqa: PLC0415 - slow

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
