"""Brings the connections that code declares into the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import InvalidConnectionError, StoredSettingsError
from ls_pipeline.resources.ledger.ledger import OVERTAKEN
from ls_pipeline.resources.ledger.records import Declared
from ls_pipeline.settings.declarations import WITHDRAWN, apply_declaration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.declarations import Declaration


def apply_declarations(
    ledger: Ledger,
    declarations: Mapping[str, Declaration],
    place: str,
    has_time: Callable[[], bool] = lambda: True,
) -> dict[str, str]:
    """Apply what changed in the declarations of a place; return why it failed, by connection.

    Disables connections that the place no longer declares. A declaration that is applied has an
    empty reason, and changes nothing, so every tick may call this. If the time is over, or settings
    changed at the same moment, the next call continues.
    """
    applied, outcomes = ledger.declarations(), dict[str, str]()
    gone = {name for name, last in applied.items() if last.place == place} - declarations.keys()
    for name, declaration in declarations.items():
        declared = Declared(declaration.document, place)
        if applied.get(name) == declared:
            outcomes[name] = ""
        elif has_time():
            outcomes[name] = _reason(_apply, ledger, declaration, declared)
    for name in gone:
        if has_time():
            outcomes[name] = _reason(_withdraw, ledger, name, place)
    return outcomes


def _reason(change: Callable[..., None], *arguments: object) -> str:
    """Make a change; return why it can't be made."""
    try:
        change(*arguments)
    except InvalidConnectionError as error:
        return "" if error.errors == (OVERTAKEN,) else f"Its declaration can't be applied: {error}"
    except StoredSettingsError as error:
        return f"Its declaration can't be applied: {error}"
    return ""


def _apply(ledger: Ledger, declaration: Declaration, declared: Declared) -> None:
    name = declaration.connection.name
    last = ledger.declarations(name).get(name)
    if last == declared:
        return  # another sensor applied it since
    before = last.document if last else {}
    revision = ledger.settings_of(name)
    if revision is None and before == declared.document:
        return  # a person removed the connection since
    current = revision.connection if revision else None
    changed = apply_declaration(current, before, declaration)
    ledger.save(changed, declared.place, revision.number if revision else None, declared)


def _withdraw(ledger: Ledger, name: str, place: str) -> None:
    if revision := ledger.settings_of(name):
        disabled = revision.connection.model_copy(update={"enabled": False})
        why = f"{place}, no longer declared"
        ledger.save(disabled, why, revision.number, Declared(WITHDRAWN, ""))
