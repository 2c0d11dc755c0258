"""``ls-pipeline connections``: adds, changes and lists connections."""

from __future__ import annotations

import getpass
import textwrap
from contextlib import nullcontext, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ls_pipeline.cli.connections.file import ConnectionsFile, read_file
from ls_pipeline.cli.connections.flags import ConnectionFlags, connection_options
from ls_pipeline.cli.connections.holding import hold, run_context
from ls_pipeline.cli.connections.rebind import rebind
from ls_pipeline.cli.console import out, print_json, print_lines, print_no_connections, print_result
from ls_pipeline.cli.context import CliContext, pass_cli
from ls_pipeline.cli.options import CONNECTION, FILE, json_instead_of, verbatim
from ls_pipeline.domain.errors import (
    PipelineError,
    StoredSettingsError,
    UnknownConnectionError,
    UnsettledError,
)
from ls_pipeline.engine.settings_change import SettingsChange, plan_change
from ls_pipeline.engine.settle import settle_all
from ls_pipeline.resources.ledger.records import WORKS
from ls_pipeline.settings.diff import diff_settings
from ls_pipeline.settings.entries import collect_errors
from ls_pipeline.settings.params import Params, SourceParams, TargetParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.resources.ledger.status import ConnectionStatus
    from ls_pipeline.settings.model import Connection

EPILOG = verbatim("""
Examples:
  ls-pipeline connections add reviews --source s3 --source-path my-bucket
  ls-pipeline connections list
""")


@click.group(epilog=EPILOG, short_help="Add, change and list connections.")
def connections() -> None:
    """Add, change and list connections.

    A connection loads the objects of a source bucket as tasks of a Label Studio project, and
    writes the labels to a target bucket.
    """


connections.add_command(rebind)


def _command(example: str, short_help: str) -> Callable[..., click.Command]:
    """Add a command to `connections` whose help has one short example."""
    epilog = verbatim(f"Example:\n  ls-pipeline connections {example}")
    return connections.command(epilog=epilog, short_help=short_help)


ADD_EXAMPLES = """
Examples:
  JSON tasks from a folder, labels to another bucket:
    ls-pipeline connections add reviews --project Reviews --label-config reviews.xml \\
      --source s3 --source-path my-bucket --source-params '{"prefix": "incoming"}' \\
      --target s3-completions --target-path my-labels
  Images shown by URL, labels to another cloud:
    ls-pipeline connections add cats --project Cats --label-config cats.xml \\
      --source gcs --source-path my-pictures --source-params '{"use_blob_urls": true}' \\
      --target s3-completions --target-path my-labels --target-params '{"prefix": "cats"}'
"""


def _own(params: type[Params]) -> list[str]:
    return [name for name in params.model_fields if name not in Params.model_fields]


NAMES = {
    "Both sides:": Params.model_fields,
    "Source params:": _own(SourceParams),
    "Target params:": _own(TargetParams),
}
PARAMS = "\n".join(
    textwrap.fill(", ".join(names), 76, initial_indent=f"{side:16}", subsequent_indent=" " * 16)
    for side, names in NAMES.items()
)

DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Show what would change, without storing it."
)
AS_JSON = json_instead_of("sentences")


@connections.command(
    epilog=verbatim(f"{ADD_EXAMPLES}\n{PARAMS}"), short_help="Add or replace a connection."
)
@click.argument("name")
@connection_options
@DRY_RUN
@AS_JSON
def add(name: str, dry_run: bool, as_json: bool, **flags: Any) -> None:  # noqa: FBT001 - flags
    """Add a connection, or replace all settings of an existing one.

    A param that is left out gets its default. A source or target that is left out is removed.
    """
    ledger = CliContext().ledger
    connection = ConnectionFlags(**flags).build(name, enabled=_is_enabled(ledger, name))
    report([store(ledger, connection, dry_run=dry_run)], as_json=as_json)


def _is_enabled(ledger: Ledger, name: str) -> bool:
    try:
        return ledger.connection(name).enabled
    except UnknownConnectionError:
        return True
    except StoredSettingsError as error:
        return error.enabled


APPLY_EPILOG = verbatim("""
Examples:
  ls-pipeline connections apply connections.yaml --dry-run   show what would change
  ls-pipeline connections apply connections.yaml

The file:
  connections:
    reviews:
      project: Reviews
      label_config_file: reviews.xml
      source: {type: s3, path: my-bucket, params: {prefix: incoming}}
      target: {type: s3-completions, path: my-labels}

Connections that are not in the file stay as they are. Editors can check and complete the file
with the schema that `ls-pipeline connections schema` prints.
""")


@connections.command(epilog=APPLY_EPILOG, short_help="Store all connections of a YAML file.")
@click.argument("file", type=FILE)
@DRY_RUN
@AS_JSON
def apply(file: Path, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Store all connections of a YAML file. Applying a file again changes nothing."""
    report(store_file(file, CliContext().ledger, dry_run=dry_run), as_json=as_json)


SCHEMA_EPILOG = verbatim("""
Example:
  ls-pipeline connections schema > connections.schema.json
  and as the first line of connections.yaml:
  # yaml-language-server: $schema=connections.schema.json
""")


@connections.command(epilog=SCHEMA_EPILOG, short_help="Print the JSON Schema of the YAML file.")
def schema() -> None:
    """Print the JSON Schema of the file that `apply` reads, for editors."""
    version = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print_json({**version, **ConnectionsFile.model_json_schema()}, indent=2)


LIST_EPILOG = verbatim("""
Examples:
  ls-pipeline connections list          a table
  ls-pipeline connections list --json   all settings, for scripts
""")


@connections.command("list", epilog=LIST_EPILOG, short_help="List all connections.")
@json_instead_of("a table")
def list_(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List all connections."""
    ledger = CliContext().ledger
    statuses = ledger.statuses()
    if as_json:
        print_json({"connections": {each.name: _settings_or_error(each) for each in statuses}})
        return
    if not statuses:
        print_no_connections()
        return
    table = Table("Connection", "Source", "Target", "Project", "Enabled")
    for status in statuses:
        table.add_row(status.name, *_columns(status))
    out.print(table)
    print_lines(*(status.refusal for status in statuses if status.refusal))


def _columns(status: ConnectionStatus) -> tuple[str, ...]:
    if status.refusal:
        return "?", "?", "?", "?"
    connection = status.connection
    enabled = "yes" if connection.enabled else "no"
    return _place(connection.source), _place(connection.target), connection.project, enabled


def _settings_or_error(status: ConnectionStatus) -> dict[str, Any]:
    return {"error": status.refusal} if status.refusal else _settings(status.connection)


def _place(side: Any) -> str:
    return f"{side.type}: {side.path}/{side.params.prefix}".rstrip("/") if side else ""


@_command("show reviews", "Print one connection as JSON.")
@CONNECTION
def show(name: str) -> None:
    """Print a connection as JSON: its settings, who saved them, and what fails."""
    connection_ledger = CliContext().ledger.connection_ledger(name)
    revision = connection_ledger.settings.in_force()
    works = {work: connection_ledger.health.of(work) for work in WORKS}
    document = {
        **_settings(revision.connection),
        "revision": revision.number,
        "saved_by": revision.saved_by,
        "failures": {work: health.failure for work, health in works.items() if health.failures},
    }
    print_json(document, indent=2)


def _settings(connection: Connection) -> dict[str, Any]:
    return connection.model_dump(mode="json")


@_command("history reviews", "List the revisions of a connection.")
@CONNECTION
@AS_JSON
def history(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the revisions of a connection's settings: when, who, and old → new."""
    revisions = CliContext().ledger.connection_ledger(name).settings.history()
    previous = [*(revision.readable for revision in revisions[1:]), None]
    entries: list[dict[str, Any]] = [
        {
            "revision": revision.number,
            "saved_at": revision.saved_at,
            "saved_by": revision.saved_by,
            "changes": _changes(before, revision),
        }
        for revision, before in zip(revisions, previous, strict=True)
    ]
    if as_json:
        print_json({"connection": name, "revisions": entries})
        return
    for entry in entries:
        when = datetime.fromtimestamp(entry["saved_at"], timezone.utc)
        by = entry["saved_by"]
        print_lines(f"Revision {entry['revision']}, {when:%Y-%m-%d %H:%M:%S} UTC, by {by}")
        print_lines(*(f"  {change}" for change in entry["changes"]))


def _changes(before: Connection | None, revision: Revision) -> list[str]:
    if isinstance(revision.settings, StoredSettingsError):
        return [revision.settings.message]
    return list(map(str, diff_settings(before, revision.settings))) if before else []


@_command("enable reviews", "Resume the runs of a connection.")
@CONNECTION
@AS_JSON
def enable(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Let sensors and runs work on a connection again."""
    _set_enabled(name, enabled=True, as_json=as_json)


@_command("disable reviews", "Pause the runs of a connection.")
@CONNECTION
@AS_JSON
def disable(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Stop sensors and runs from working on a connection. Tasks and files stay as they are."""
    _set_enabled(name, enabled=False, as_json=as_json)


def _set_enabled(name: str, *, enabled: bool, as_json: bool) -> None:
    ledger = CliContext().ledger
    connection = ledger.connection(name).model_copy(update={"enabled": enabled})
    report([store(ledger, connection)], as_json=as_json)


@_command("remove reviews", "Remove a connection.")
@CONNECTION
@click.option("--force", is_flag=True, help="Do not finish what a run began, nor wait for a run.")
@AS_JSON
@pass_cli
def remove(
    cli: CliContext,
    /,
    name: str,
    force: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001
) -> None:
    """Remove a connection.

    If a run was interrupted, what it began in Label Studio and in the target is finished first.
    Apart from that, objects, tasks and labels stay as they are. If you add the connection again
    with the same source bucket and project, it continues where it stopped.
    """
    notes: list[str] = []
    with nullcontext() if force else hold(name, cli) as held:
        if held and held.intents.open():
            notes = _settle(held, cli)
        cli.ledger.remove(name)
    _remove_partition(name, cli)
    document = {"connection": name, "removed": True, "notes": notes}
    sentences = [f"Connection {name!r} was removed.", *notes]
    print_result(document, " ".join(sentences), as_json=as_json)


def _remove_partition(name: str, cli: CliContext) -> None:
    """Remove a connection's partition from Dagster; if that fails, the sensors do it."""
    with suppress(Exception):
        cli.known_instance.delete_dynamic_partition("connections", name)


def _settle(held: HeldConnection, cli: CliContext) -> list[str]:
    """Finish what runs began. Raises ``UnsettledError`` if that is not possible now."""
    try:
        return settle_all(run_context(held, cli))
    except PipelineError as error:
        raise UnsettledError(held.name, error) from error


Stored = tuple[SettingsChange, int | None]
"""A change of a connection's settings, and its revision, which is None in a dry run."""


def store(ledger: Ledger, connection: Connection, *, dry_run: bool = False) -> Stored:
    """Store a connection's settings, unless this is a dry run."""
    change = plan_change(ledger, connection)
    return change, None if dry_run else change.save(ledger, getpass.getuser())


def store_file(file: Path, ledger: Ledger, *, dry_run: bool = False) -> Iterator[Stored]:
    """Store all connections of a file, one by one.

    Raises ``ConnectionsFileError`` at the end, for the connections that can't be stored.
    """
    with collect_errors(str(file), "the others were stored") as attempt:
        for connection in read_file(file):
            with attempt(connection.name):
                yield store(ledger, connection, dry_run=dry_run)


def report(changes: Iterable[Stored], *, as_json: bool = False) -> None:
    """Print each change as soon as it is stored, or all as one JSON object at the end."""
    by_name = {}
    try:
        for change, revision in changes:
            by_name[change.connection.name] = {
                "stored": bool(change.changes) and revision is not None,
                "revision": revision or change.base_revision,
                "changes": list(map(str, change.changes)),
                "notes": change.notes,
            }
            if not as_json:
                _print_change(change, revision)
    except PipelineError:
        if as_json and by_name:  # what was stored before the error
            print_json({"connections": by_name})
        raise
    if as_json:
        print_json({"connections": by_name})


def _print_change(change: SettingsChange, revision: int | None) -> None:
    name = change.connection.name
    if not change.changes:
        print_lines(f"Connection {name!r} is unchanged at revision {change.base_revision}.")
    elif revision is None:
        effect = "change" if change.base_revision else "be added"
        print_lines(f"Connection {name!r} would {effect}. Nothing was stored: this is a dry run.")
    else:
        print_lines(f"Connection {name!r} was stored as revision {revision}.")
    print_lines(*(f"  {setting}" for setting in change.changes if setting.setting != "name"))
    print_lines(*(f"  {note}" for note in change.notes))
