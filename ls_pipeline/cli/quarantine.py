"""``ls-pipeline quarantine``: objects and rows that could not become tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ls_pipeline.cli.console import out, print_json, print_lines, print_result
from ls_pipeline.cli.context import CliContext, connection_ledgers
from ls_pipeline.cli.options import CONNECTION, CONNECTIONS, json_instead_of, verbatim
from ls_pipeline.domain.errors import NotInQuarantineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ls_pipeline.resources.ledger.records import Quarantined


EPILOG = verbatim("""
Examples:
  ls-pipeline quarantine list
  ls-pipeline quarantine retry cats
""")


@click.group(epilog=EPILOG, short_help="List and retry what could not become tasks.")
def quarantine() -> None:
    """List and retry objects and rows that could not become tasks.

    A new version of an object is retried automatically.
    """


LIST_EPILOG = verbatim("""
Examples:
  ls-pipeline quarantine list               all connections
  ls-pipeline quarantine list cats --json   one connection, as JSON
""")


@quarantine.command("list", epilog=LIST_EPILOG)
@CONNECTIONS
@json_instead_of("a table")
def list_(names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List what is in quarantine, with the reasons.

    Without CONNECTION, it lists all connections.
    """
    ledgers = connection_ledgers(CliContext().ledger, names)
    quarantined = {name: list(ledger.objects.quarantined()) for name, ledger in ledgers.items()}
    if as_json:
        by_name = {name: list(map(_as_json, items)) for name, items in quarantined.items()}
        print_json({"connections": by_name})
        return
    table = _table(quarantined)
    if not table.row_count:
        print_lines("Nothing is in quarantine.")
        return
    out.print(table)
    print_lines("To retry an object, upload a corrected version of it.")


RETRY_EPILOG = verbatim("""
Examples:
  ls-pipeline quarantine retry cats                      all objects
  ls-pipeline quarantine retry cats incoming/one.json    one object
""")


@quarantine.command(epilog=RETRY_EPILOG, short_help="Retry objects in quarantine.")
@CONNECTION
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@json_instead_of("a sentence")
def retry(name: str, keys: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Let the next run try objects again.

    Without KEY, it tries all objects in the connection's quarantine. Use it after changing the
    label config in Label Studio.
    """
    connection_ledger = CliContext().ledger.connection_ledger(name)
    quarantined = connection_ledger.objects.quarantined_keys()
    if unknown := [key for key in keys if key not in {*quarantined}]:
        raise NotInQuarantineError(name, unknown)
    wanted = keys or quarantined
    with connection_ledger.acquire(10) as held:
        held.objects.release(wanted)
    noun = "object" if len(wanted) == 1 else "objects"
    sentence = f"The next run will try {len(wanted)} {noun} of {name!r} again."
    if not wanted:
        sentence = f"Nothing of {name!r} is in quarantine."
    print_result({"connection": name, "keys": list(wanted)}, sentence, as_json=as_json)


def _table(quarantined: Mapping[str, Iterable[Quarantined]]) -> Table:
    table = Table("Connection", "Key", "Row", "Reason")
    for name, items in quarantined.items():
        for item in items:
            row = "" if item.row is None else str(item.row)
            table.add_row(name, item.key, row, item.reason)
    return table


def _as_json(item: Quarantined) -> dict[str, Any]:
    names = ("key", "row", "version", "reason", "more")
    return {name: getattr(item, name) for name in names}
