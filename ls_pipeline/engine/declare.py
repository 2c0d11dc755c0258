"""Brings the connections that code declares into the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import InvalidConnectionError, StoredSettingsError
from ls_pipeline.resources.ledger.records import Declared
from ls_pipeline.settings.declarations import WITHDRAWN, apply_declaration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.declarations import Declaration


def apply_declarations(
    ledger: Ledger, declarations: Mapping[str, Declaration], place: str
) -> dict[str, str]:
    """Apply what changed in the declarations of a place; return why it failed, by connection.

    Disables connections that the place no longer declares. A declaration that is applied changes
    nothing, so every tick may call this. If settings changed at the same moment, the next call
    applies it.
    """
    failures, applied = {}, ledger.declarations()
    for name, declaration in declarations.items():
        declared = Declared(declaration.document, place)
        if applied.get(name) != declared:
            failures[name] = _apply(ledger, declaration, applied.get(name), declared)
    for name, last in applied.items():
        if last.place == place and name not in declarations:
            failures[name] = _withdraw(ledger, name, place)
    return {name: reason for name, reason in failures.items() if reason}


def _apply(
    ledger: Ledger, declaration: Declaration, last: Declared | None, declared: Declared
) -> str:
    connection, before = declaration.connection, last.document if last else {}
    try:
        current, onto = None, None
        if connection.name in ledger.names():
            revision = ledger.connection_ledger(connection.name).settings.in_force()
            current, onto = revision.connection, revision.number
        elif before == declared.document:
            return ""  # a person removed it since
        changed = apply_declaration(current, before, declaration)
        ledger.save(changed, declared.place, onto, declared)
    except (InvalidConnectionError, StoredSettingsError) as error:
        return f"Its declaration in {declared.place} can't be applied: {error}"
    return ""


def _withdraw(ledger: Ledger, name: str, place: str) -> str:
    withdrawn = Declared(WITHDRAWN, "")
    try:
        if name in ledger.names():
            revision = ledger.connection_ledger(name).settings.in_force()
            disabled = revision.connection.model_copy(update={"enabled": False})
            ledger.save(disabled, f"{place}, no longer declared", revision.number, withdrawn)
    except (InvalidConnectionError, StoredSettingsError) as error:
        return f"It is no longer declared in {place}, and can't be disabled: {error}"
    return ""
