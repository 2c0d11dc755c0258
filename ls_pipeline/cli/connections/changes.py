"""Stores settings of connections, and reports what changed."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any, NamedTuple

from ls_pipeline.cli.connections.file import collect_errors, read_file
from ls_pipeline.cli.console import print_json, print_lines
from ls_pipeline.engine.settings_change import SettingsChange, plan_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.model import Connection


class StoredChange(NamedTuple):
    """A change of a connection's settings. ``revision`` is None in a dry run."""

    change: SettingsChange
    revision: int | None

    def as_json(self) -> dict[str, Any]:
        return {
            "stored": bool(self.change.changes) and self.revision is not None,
            "revision": self.revision or self.change.base_revision,
            "changes": list(map(str, self.change.changes)),
            "notes": self.change.notes,
        }


def store(ledger: Ledger, connection: Connection, *, dry_run: bool = False) -> StoredChange:
    """Store a connection's settings, unless this is a dry run."""
    change = plan_change(ledger, connection)
    return StoredChange(change, None if dry_run else change.save(ledger, getpass.getuser()))


def store_file(file: Path, ledger: Ledger, *, dry_run: bool = False) -> Iterator[StoredChange]:
    """Store all connections of a file, one by one.

    Raises ``ConnectionsFileError`` at the end, for the connections that can't be stored.
    """
    with collect_errors(file, "the others were stored") as attempt:
        for connection in read_file(file):
            with attempt(connection.name):
                yield store(ledger, connection, dry_run=dry_run)


def report(stored_changes: Iterable[StoredChange], *, as_json: bool = False) -> None:
    """Print each change as soon as it is stored, or all as one JSON object at the end."""
    by_name = {}
    try:
        for stored in stored_changes:
            by_name[stored.change.connection.name] = stored.as_json()
            if not as_json:
                _print(stored)
    finally:  # print what was stored before an error
        if as_json:
            print_json({"connections": by_name})


def _print(stored: StoredChange) -> None:
    change, revision = stored
    name = change.connection.name
    if not change.changes:
        print_lines(f"Connection {name!r} is unchanged at revision {change.base_revision}.")
    elif revision is None:
        print_lines(f"Connection {name!r} was not stored: this is a dry run.")
    else:
        print_lines(f"Connection {name!r} was stored as revision {revision}.")
    if change.base_revision:
        print_lines(*(f"  {setting}" for setting in change.changes))
    print_lines(*(f"  {note}" for note in change.notes))
