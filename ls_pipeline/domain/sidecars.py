"""What an object's task has beside the object: a JSON object that lies next to it.

With the suffix ``.json``, ``cat.json`` is the sidecar of ``cat.jpg``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2**20
"""Bytes of a sidecar; a larger one is not read."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar as a run read it."""

    key: str
    """Where it is, or would be."""
    version: str = ""
    """Empty if it does not exist."""
    form: object = None
    """Its content: the task's data, or Label Studio's form with ``data``."""
    error: str = ""
    """Why it can't be read."""

    def version_with(self, version: str) -> str:
        """Return the version of a task that is made of an object's version and the sidecar."""
        return joined_version(version, self.version)

    def merged(self, data: Mapping[str, Any]) -> object:
        """Return the task with an object's own data, which wins."""
        if not isinstance(self.form, dict):
            return {"data": data}
        if isinstance(self.form.get("data"), dict):
            return {**self.form, "data": {**self.form["data"], **data}}
        return {**self.form, **data}


def joined_version(version: str, sidecar_version: str) -> str:
    """Return the version of a task that is made of an object and its sidecar, if there is one."""
    return f"{version} {sidecar_version}" if sidecar_version else version


def sidecar_key(key: str, suffix: str) -> str:
    """Return the key of an object's sidecar: the suffix replaces what follows the last dot."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}{suffix}"
