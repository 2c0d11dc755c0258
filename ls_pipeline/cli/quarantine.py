"""``ls-pipeline quarantine``: what could not become a task, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ls_pipeline.cli.console import out, print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import CONNECTION, CONNECTIONS, json_instead_of
from ls_pipeline.domain.errors import NotInQuarantineError

if TYPE_CHECKING:
    from ls_pipeline.resources.ledger.connection import Account


@click.group(short_help="What could not become a task, and why.")
def quarantine() -> None:
    """Show objects and rows that could not become tasks, and try them again.

    A new version of an object is tried by itself.
    """


LIST_EPILOG = """
\b
Examples:
  ls-pipeline quarantine list            of all connections
  ls-pipeline quarantine list cats --json
"""


@quarantine.command("list", epilog=LIST_EPILOG)
@CONNECTIONS
@json_instead_of("a table")
def list_(names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List what is in quarantine, with the reasons; of all connections if none is named."""
    accounts = _accounts(names)
    if as_json:
        found = {one.name: [_plain(bad) for bad in one.quarantined()] for one in accounts}
        click.echo(json.dumps({"connections": found}))
        return
    table = Table("Connection", "Key", "Row", "Reason")
    for account in accounts:
        for bad in account.quarantined():
            row = "" if bad.row is None else str(bad.row)
            table.add_row(account.name, _shown(bad.key), row, bad.reason)
    if not table.row_count:
        print_lines("Nothing is in quarantine.")
        return
    out.print(table, markup=False)
    print_lines("Upload a correct version of an object, and it is tried by itself.")


RETRY_EPILOG = """
\b
Examples:
  ls-pipeline quarantine retry cats                      all of them
  ls-pipeline quarantine retry cats incoming/one.json    one of them
"""


@quarantine.command(epilog=RETRY_EPILOG)
@CONNECTION
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@json_instead_of("a sentence")
def retry(name: str, keys: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Have objects of a connection tried again by the next pass: all of them if none is named.

    Useful after the label config was changed in Label Studio.
    """
    account = CliContext().ledger.account(name)
    held = list(dict.fromkeys(bad.key for bad in account.quarantined()))
    if unknown := [key for key in keys if key not in held]:
        raise NotInQuarantineError(name, unknown)
    wanted = keys or held
    with account.lease(10) as lease:
        account.free(lease, wanted)
    if as_json:
        click.echo(json.dumps({"connection": name, "keys": list(wanted)}))
        return
    noun = "object" if len(wanted) == 1 else "objects"
    print_lines(f"{len(wanted)} {noun} of {name!r} will be tried again by the next pass.")


def _accounts(names: tuple[str, ...]) -> list[Account]:
    ledger = CliContext().ledger
    return [ledger.account(name) for name in names or ledger.names()]


def _plain(bad: Any) -> dict[str, Any]:
    return {"key": bad.key, "row": bad.row, "version": bad.version, "reason": bad.reason}


def _shown(key: str) -> str:
    """Show a key on one line, whatever it holds."""
    return key if key.isprintable() else repr(key)[1:-1]
