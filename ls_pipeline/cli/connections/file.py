"""The YAML file of connections, for deployments that are kept in git."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict

from ls_pipeline.domain.errors import ConnectionsFileError, InvalidConnectionError
from ls_pipeline.settings.entries import Entry, collect_errors, connection_of, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from ls_pipeline.settings.model import Connection


class ConnectionsFile(BaseModel):
    """Connections of ls_pipeline by name."""

    model_config = ConfigDict(extra="forbid", title="ls_pipeline connections")

    connections: dict[str, Entry]


def read_file(file: Path) -> list[Connection]:
    """Return the connections of a file.

    Raises ``ConnectionsFileError`` with every fault of every connection.
    """
    document = _parsed(file)
    if not isinstance(document, dict) or not isinstance(document.get("connections"), dict):
        raise ConnectionsFileError(str(file), ["It has no mapping `connections:`."])
    valid = []
    with collect_errors(str(file), "nothing was stored") as attempt:
        for name in document.keys() - {"connections"}:
            with attempt(name):
                raise InvalidConnectionError(name, ["Move it below `connections:`."])
        for name, entry in document["connections"].items():
            with attempt(name):
                valid.append(connection_of(str(name), entry, file.parent))
    return valid


def _parsed(file: Path) -> Any:
    try:
        return yaml.load(read_text(file), _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>",', "in").split())
        raise ConnectionsFileError(str(file), [f"It can't be read: {reason}."]) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a repeated key is an error. PyYAML would keep only the last value."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flat: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the mapping's own keys, then merge those that `<<` adds."""
        if id(node) not in self._flat:
            self._flat.add(id(node))
            merge = "tag:yaml.org,2002:merge"
            own = [(key.tag, key.value) for key, _ in node.value if key.tag != merge]
            if len(set(map(str, own))) < len(own):
                raise yaml.constructor.ConstructorError(
                    None, None, "a mapping has the same key twice", node.start_mark
                )
        super().flatten_mapping(node)
