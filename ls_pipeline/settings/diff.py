"""The difference between two revisions of a connection, and a form that makes a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ls_pipeline.settings.model import Connection
from ls_pipeline.settings.params import SourceParams, TargetParams
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """One setting that differs between two revisions; ``setting`` is dotted."""

    setting: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.setting}: {self.after!r}"
        return f"{self.setting}: {self.before!r} → {self.after!r}"


def diff_settings(before: Connection | None, after: Connection) -> list[ChangedSetting]:
    """Return the settings that differ between two revisions of a connection.

    What one of them lacks has its default, so a new connection or side shows only what was set.
    """
    old = dict(_flatten(before.model_dump(mode="json"))) if before else {}
    new = dict(_flatten(after.model_dump(mode="json")))
    defaults = dict(_flatten(_DEFAULTS))
    changes = (
        ChangedSetting(name, old.get(name, default), new.get(name, default))
        for name in dict.fromkeys([*old, *new])
        for default in [defaults.get(name)]
    )
    return [change for change in changes if change.before != change.after]


_DEFAULTS = {
    "label_config": "",
    "enabled": True,
    "source": {"params": SourceParams().model_dump(mode="json")},
    "target": {"params": TargetParams().model_dump(mode="json")},
}


def _flatten(document: Mapping[str, Any], root: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{root}{name}.")
        else:
            yield root + name, value


def apply_form(
    name: str, side: str, before: Connection | None, form: Mapping[str, Any]
) -> Connection:
    """Return a connection with a form filled in for its ``source`` or ``target``.

    The form is flat: ``type`` (``none`` removes the side), ``path``, the params, and the
    connection's own ``project``, ``label_config`` and ``enabled``. Settings that it omits stay.

    Raises ``InvalidConnectionError`` with every error.
    """
    params = dict(form)
    document: dict[str, Any] = before.model_dump(mode="json") if before else {"project": name}
    endpoint = document.get(side) or {"type": "none", "path": "", "params": {}}
    for setting in ("project", "label_config", "enabled"):
        default = Connection.model_fields[setting].default
        document[setting] = params.pop(setting, document.get(setting, default))
    for setting in ("type", "path"):
        endpoint[setting] = params.pop(setting, endpoint[setting])
    endpoint["params"] |= params
    document[side] = None if endpoint["type"] == "none" else endpoint
    return build_connection(**{"source": None, "target": None, **document, "name": name})
