"""``ls-pipeline connections``: which bucket feeds which project, and where its labels go."""

from __future__ import annotations

import getpass
import json
import textwrap
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ls_pipeline.cli.connections.file import all_errors, json_schema, read
from ls_pipeline.cli.console import out, print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import CONNECTION, FILE, json_instead_of
from ls_pipeline.engine.settings_change import SettingsChange, plan_change
from ls_pipeline.resources.ledger.records import WORKS
from ls_pipeline.settings.diff import diff_settings
from ls_pipeline.settings.model import TITLE_LENGTHS, Connection, Params, SourceParams, TargetParams
from ls_pipeline.settings.validation import adding_errors, build_connection, parse_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


def side_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that tell source, target and project."""
    for option in reversed(
        [
            click.option("--source", metavar="s3|gcs", help="Where tasks come from."),
            click.option(
                "--source-path", metavar="BUCKET", default="", help="The source bucket's name."
            ),
            click.option(
                "--source-params", metavar="JSON", default="{}", help="How objects become tasks."
            ),
            click.option(
                "--target", metavar="s3-completions|gcs-completions", help="Where labels go."
            ),
            click.option(
                "--target-path", metavar="BUCKET", default="", help="The target bucket's name."
            ),
            click.option(
                "--target-params", metavar="JSON", default="{}", help="Where labels go, and how."
            ),
            click.option(
                "--project", metavar="TITLE", help="Label Studio project, made if absent [NAME]."
            ),
            click.option(
                "--label-config",
                metavar="FILE",
                type=FILE,
                help="What a new project is made with: XML.",
            ),
        ]
    ):
        command = option(command)
    return command


def from_flags(  # noqa: PLR0913 - one for each flag
    name: str,
    *,
    source: str | None,
    source_path: str,
    source_params: str,
    target: str | None,
    target_path: str,
    target_params: str,
    project: str | None,
    label_config: Path | None,
    enabled: bool = True,
) -> Connection:
    """Build a connection from flags. Raises ``InvalidConnectionError`` with every error."""
    errors: list[str] = []
    with adding_errors(name, errors):
        return build_connection(
            name,
            source=_part("source", source, source_path, source_params, errors),
            target=_part("target", target, target_path, target_params, errors),
            project=name[: TITLE_LENGTHS[-1]] if project is None else project,
            label_config=_text(label_config, errors) if label_config else "",
            enabled=enabled,
        )


def _text(file: Path, errors: list[str]) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"--label-config {file} can't be read: {error}.")
        return ""


def _part(
    side: str, kind: str | None, path: str, params: str, errors: list[str]
) -> dict[str, Any] | None:
    given = parse_params(f"--{side}-params", params, errors)
    if kind is None:
        if path or given:
            errors.append(f"--{side}-path and --{side}-params need --{side}.")
        return None
    return {"type": kind, "path": path, "params": given}


@click.group(short_help="Which bucket feeds which project, and where its labels go.")
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
"""


def _params(title: str, names: Iterable[str]) -> str:
    """Give the lines that name params, for the end of a help page."""
    lines = textwrap.wrap(", ".join(names), 76 - len(title))
    return f"\n{' ' * len(title)}".join([title + lines[0], *lines[1:]])


def _own(params: type[Params]) -> list[str]:
    return [name for name in params.model_fields if name not in Params.model_fields]


PARAMS = "\n".join(
    [
        "\n\b",
        _params("Both sides:     ", Params.model_fields),
        _params("Source params:  ", _own(SourceParams)),
        _params("Target params:  ", _own(TargetParams)),
    ]
)

DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would change, and store nothing.")
AS_JSON = json_instead_of("sentences")


@connections.command(epilog=ADD_EPILOG + PARAMS)
@click.argument("name")
@side_options
@DRY_RUN
@AS_JSON
def add(name: str, dry_run: bool, as_json: bool, **flags: Any) -> None:  # noqa: FBT001 - flags
    """Store a connection, or replace all settings of one that exists.

    What is left out goes back to its default, and a side that is left out is taken away.
    """
    ledger = CliContext().ledger
    enabled = name not in ledger.names() or ledger.connection(name).enabled
    change = plan_change(ledger, from_flags(name, **flags, enabled=enabled))
    _tell([(change, None if dry_run else change.save(ledger, getpass.getuser()))], as_json=as_json)


def _tell(stored: Iterable[tuple[SettingsChange, int | None]], *, as_json: bool) -> None:
    """Tell what changes were, each as soon as it is made, or as one JSON object in the end."""
    found = {}
    try:
        for change, number in stored:
            found[change.connection.name] = _as_json(change, number)
            if not as_json:
                tell(change, number)
    finally:  # what was stored before one failed
        if as_json:
            click.echo(json.dumps({"connections": found}))


def _as_json(change: SettingsChange, number: int | None) -> dict[str, Any]:
    return {
        "stored": bool(change.changes) and number is not None,
        "revision": number or change.base_revision,
        "changes": list(map(str, change.changes)),
        "notes": change.notes,
    }


def tell(change: SettingsChange, number: int | None) -> None:
    """Say what a change was, or with ``number`` None would be, and what follows from it."""
    name = change.connection.name
    if not change.changes:
        print_lines(f"Connection {name!r} is as it was, revision {change.base_revision}.")
    elif number is None:
        print_lines(f"Connection {name!r} is not stored: this is a dry run.")
    else:
        print_lines(f"Connection {name!r} is stored, revision {number}.")
    if change.base_revision:
        print_lines(*(f"  {one}" for one in change.changes))
    print_lines(*(f"  {note}" for note in change.notes))


APPLY_EPILOG = """
\b
Examples:
  ls-pipeline connections apply connections.yaml --dry-run   what would change
  ls-pipeline connections apply connections.yaml

\b
The file:
  connections:
    reviews:
      project: Reviews
      label_config_file: reviews.xml
      source: {type: s3, path: my-bucket, params: {prefix: incoming}}
      target: {type: s3-completions, path: my-labels}

\b
Connections that the file does not name stay as they are. Editors check and complete it with the
schema that `ls-pipeline connections schema` prints.
"""


@connections.command(epilog=APPLY_EPILOG, short_help="Store all connections of a YAML file.")
@click.argument("file", type=FILE)
@DRY_RUN
@AS_JSON
def apply(file: Path, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Store all connections of a YAML file; apply it again, and nothing changes."""
    apply_file(file, CliContext(), dry_run=dry_run, as_json=as_json)


def apply_file(
    file: Path, cli: CliContext, *, dry_run: bool = False, as_json: bool = False
) -> None:
    """Store all connections of a file, and say what changed.

    Raises ``InvalidConnectionError`` for all that can't be stored; the others are.
    """
    _tell(_stored(file, cli, dry_run=dry_run), as_json=as_json)


def _stored(
    file: Path, cli: CliContext, *, dry_run: bool
) -> Iterator[tuple[SettingsChange, int | None]]:
    with all_errors(file, "the others were stored") as attempt:
        for one in read(file):
            with attempt(one.name):
                change = plan_change(cli.ledger, one)
                yield change, None if dry_run else change.save(cli.ledger, getpass.getuser())


SCHEMA_EPILOG = """
\b
Example:
  ls-pipeline connections schema > connections.schema.json
  and as the first line of connections.yaml:
  # yaml-language-server: $schema=connections.schema.json
"""


@connections.command(epilog=SCHEMA_EPILOG, short_help="Print the JSON Schema of that file.")
def schema() -> None:
    """Print the JSON Schema of the file that `apply` takes, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


LIST_EPILOG = """
\b
Examples:
  ls-pipeline connections list          a table
  ls-pipeline connections list --json   all of their settings, for scripts
"""


@connections.command("list", epilog=LIST_EPILOG)
@json_instead_of("a table")
def list_(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the connections."""
    ledger = CliContext().ledger
    found = [ledger.connection(name) for name in ledger.names()]
    if as_json:
        click.echo(json.dumps({"connections": {one.name: _plain(one) for one in found}}))
        return
    table = Table("Connection", "Source", "Target", "Project", "Enabled")
    for one in found:
        enabled = "yes" if one.enabled else "no"
        table.add_row(one.name, _place(one.source), _place(one.target), one.project, enabled)
    if found:
        out.print(table, markup=False)  # a title may look like it
    else:
        print_lines("There are none yet; see ls-pipeline connections add --help.")


def _place(part: Any) -> str:
    return f"{part.type}: {part.path}/{part.params.prefix}".rstrip("/") if part else ""


SHOW_EPILOG = """
\b
Example:
  ls-pipeline connections show reviews
"""


@connections.command(epilog=SHOW_EPILOG, short_help="Show a connection as JSON.")
@CONNECTION
def show(name: str) -> None:
    """Show a connection as JSON: its params in force, who stored them, and how it goes."""
    account = CliContext().ledger.account(name)
    revision = account.revision()
    works = {work: account.health(work) for work in WORKS}
    shown = {
        **_plain(revision.connection),
        "revision": revision.number,
        "saved_by": revision.saved_by,
        "failures": {work: health.failure for work, health in works.items() if health.failures},
    }
    click.echo(json.dumps(shown, indent=2))


def _plain(one: Connection) -> dict[str, Any]:
    return one.model_dump(mode="json")


HISTORY_EPILOG = """
\b
Example:
  ls-pipeline connections history reviews
"""


@connections.command(
    epilog=HISTORY_EPILOG, short_help="List the revisions of a connection's settings."
)
@CONNECTION
@AS_JSON
def history(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the revisions of a connection's settings: when, who, and old → new."""
    revisions = CliContext().ledger.account(name).history()
    before = [*(one.connection for one in revisions[1:]), None]
    found: list[dict[str, Any]] = [
        {
            "revision": revision.number,
            "saved_at": revision.saved_at,
            "saved_by": revision.saved_by,
            "changes": [str(one) for one in diff_settings(earlier, revision.connection)]
            if earlier
            else [],
        }
        for revision, earlier in zip(revisions, before, strict=True)
    ]
    if as_json:
        click.echo(json.dumps({"connection": name, "revisions": found}))
        return
    for one in found:
        when = datetime.fromtimestamp(one["saved_at"], timezone.utc)
        print_lines(
            f"Revision {one['revision']}, {when:%Y-%m-%d %H:%M:%S} UTC, by {one['saved_by']}"
        )
        print_lines(*(f"  {change}" for change in one["changes"]))


ENABLE_EPILOG = """
\b
Example:
  ls-pipeline connections enable reviews
"""


@connections.command(epilog=ENABLE_EPILOG, short_help="Let sensors and passes work on it again.")
@CONNECTION
@AS_JSON
def enable(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Let sensors and passes work on a connection again."""
    _switch(name, enabled=True, as_json=as_json)


DISABLE_EPILOG = """
\b
Example:
  ls-pipeline connections disable reviews
"""


@connections.command(epilog=DISABLE_EPILOG, short_help="Let no sensor and no pass work on it.")
@CONNECTION
@AS_JSON
def disable(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Let no sensor and no pass work on a connection; everything stays as it is."""
    _switch(name, enabled=False, as_json=as_json)


def _switch(name: str, *, enabled: bool, as_json: bool) -> None:
    ledger = CliContext().ledger
    one = ledger.connection(name).model_copy(update={"enabled": enabled})
    change = plan_change(ledger, one)
    _tell([(change, change.save(ledger, getpass.getuser()))], as_json=as_json)


REMOVE_EPILOG = """
\b
Example:
  ls-pipeline connections remove reviews
"""


@connections.command(epilog=REMOVE_EPILOG)
@CONNECTION
@AS_JSON
def remove(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Take a connection out of use.

    Objects, tasks and labels stay as they are. Added again with the same source bucket and
    project, it goes on where it stopped.
    """
    CliContext().ledger.remove(name)
    if as_json:
        click.echo(json.dumps({"connection": name, "removed": True}))
    else:
        print_lines(f"Connection {name!r} is removed.")
