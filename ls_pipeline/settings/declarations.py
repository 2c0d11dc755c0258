"""Connections that code declares, and what a changed declaration changes.

People may change a declared connection in Dagster, too. So a declaration is compared with the one
that was applied last, not with the settings in force: only what changed in it is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ls_pipeline.settings.entries import collect_errors, connection_of
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ls_pipeline.settings.model import Connection

OWN = ("project", "label_config", "enabled")
"""The settings of a connection that belong to neither side."""

WITHDRAWN: dict[str, Any] = {"enabled": False}
"""What counts as declared of a connection that is no longer declared: it was disabled."""


@dataclass(frozen=True)
class Declaration:
    """A connection that code declares."""

    connection: Connection
    document: Mapping[str, Any]
    """What it sets itself, without defaults, as JSON."""

    def settings(self) -> Iterator[str]:
        """Yield the settings that it sets, dotted."""
        for setting, value in self.document.items():
            if setting in OWN:
                yield setting
            else:
                yield from (f"{setting}.{name}" for name in value if name != "params")
                yield from (f"{setting}.params.{name}" for name in value.get("params", ()))


def read_declarations(
    connections: Mapping[str, Any], folder: Path, place: str
) -> dict[str, Declaration]:
    """Return what a mapping declares, in the form of ``connections.yaml``, by name.

    Files are relative to ``folder``. Raises ``ConnectionsFileError`` with every fault of all.
    """
    declarations = {}
    with collect_errors(place, "its connections can't be used") as attempt:
        for name, entry in connections.items():
            with attempt(name):
                declarations[name] = _declaration(name, entry, folder)
    return declarations


def _declaration(name: str, entry: Any, folder: Path) -> Declaration:
    connection = connection_of(name, entry, folder)
    document = connection.model_dump(mode="json", exclude_unset=True, exclude={"name"})
    given = {*entry, *(["label_config"] if entry.get("label_config_file") else [])}
    kept = {key: value for key, value in document.items() if key in given and value is not None}
    return Declaration(connection, kept)


def apply_declaration(
    current: Connection | None, before: Mapping[str, Any], declaration: Declaration
) -> Connection:
    """Return a connection with what changed since the declaration that was applied ``before``.

    Raises ``InvalidConnectionError``.
    """
    declared, after = declaration.connection, declaration.document
    if current is None:
        return declared
    document = current.model_dump(mode="json")
    for setting in OWN:
        if before.get(setting) != after.get(setting):
            document[setting] = getattr(declared, setting)
    for side in ("source", "target"):
        old, new = before.get(side), after.get(side)
        if old != new:
            document[side] = _changed_side(document[side], old or {}, new)
    return build_connection(**document)


def _changed_side(
    current: dict[str, Any] | None, old: Mapping[str, Any], new: dict[str, Any] | None
) -> dict[str, Any] | None:
    if new is None or current is None:
        return new
    changed = {name: new[name] for name in ("type", "path") if new[name] != old.get(name)}
    old_params, new_params = old.get("params", {}), new.get("params", {})
    params = {
        name: value
        for name, value in current["params"].items()
        if name not in old_params or name in new_params  # else its default applies again
    }
    params |= {
        name: value
        for name, value in new_params.items()
        if name not in old_params or old_params[name] != value
    }
    return {**current, **changed, "params": params}
