"""The YAML file of connections, for deployments that are kept in git."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ls_pipeline.domain.errors import ConnectionsFileError, InvalidConnectionError
from ls_pipeline.settings.model import Connection, Source, Target
from ls_pipeline.settings.validation import adding_errors, build_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


LARGEST_FILE = 10 * 2**20
"""Bytes of a file of connections, or of a label config."""


class Entry(BaseModel):
    """A connection. It needs a source, a target or both."""

    model_config = ConfigDict(extra="forbid")

    source: Source | None = Field(default=None, description="Where tasks come from.")
    target: Target | None = Field(default=None, description="Where completions are written.")
    project: str = Field(
        default="",
        description="The title of the Label Studio project, which is created if it does not exist. "
        "By default the connection's name.",
    )
    label_config: str = Field(default="", description="The label config of a new project: XML.")
    label_config_file: str = Field(
        default="", description="A file with the label config, relative to this one."
    )
    enabled: bool = Field(default=True, description="Whether sensors and runs work on it.")


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
    with collect_errors(file, "nothing was stored") as attempt:
        for name in document.keys() - {"connections"}:
            with attempt(name):
                raise InvalidConnectionError(name, ["Move it below `connections:`."])
        for name, entry in document["connections"].items():
            with attempt(name):
                valid.append(_connection(str(name), entry, file.parent))
    return valid


def _parsed(file: Path) -> Any:
    try:
        return yaml.load(_read_text(file), _Loader)  # noqa: S506 - a SafeLoader
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


def _connection(name: str, entry: Any, folder: Path) -> Connection:
    """Return the connection of an entry, whose sides `build_connection` checks."""
    if not isinstance(entry, dict):
        raise InvalidConnectionError(name, ["It must be a mapping."])
    errors: list[str] = []
    settings = {key: value for key, value in entry.items() if key not in {"source", "target"}}
    try:
        checked = Entry.model_validate(settings, strict=True)
    except ValidationError as error:
        errors += map(_sentence, error.errors())
        checked = Entry()
    sides = {side: entry.get(side) for side in ("source", "target")}
    for side, value in sides.items():
        if value is not None and not isinstance(value, dict):
            errors.append(f"The {side} must be a mapping with type, path and params.")
            sides[side] = None
    label_config = checked.label_config
    if checked.label_config_file:
        file = folder / checked.label_config_file
        label_config = read_label_config(file, "label_config_file", errors)
    with adding_errors(name, errors):
        return build_connection(
            name,
            **sides,
            project=checked.project or name,
            label_config=label_config,
            enabled=checked.enabled,
        )


def _sentence(error: Any) -> str:
    setting = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        similar = difflib.get_close_matches(setting, Entry.model_fields, 1)
        hint = f" (did you mean {similar[0]!r}?)" if similar else ""
        return f"There is no setting {setting!r}{hint}. Settings: {', '.join(Entry.model_fields)}."
    return f"{setting}: {error['msg']}."


def read_label_config(file: Path, setting: str, errors: list[str]) -> str:
    """Return a file's text. If it can't be read, add the error of this setting to ``errors``."""
    try:
        return _read_text(file)
    except (OSError, ValueError) as error:
        errors.append(f"{setting} can't be read: {error}.")
        return ""


def _read_text(file: Path) -> str:
    """Return a file's text. Raises ``OSError`` and ``ValueError``, also if it is too large."""
    with file.open("rb") as stream:
        body = stream.read(LARGEST_FILE + 1)
    if len(body) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return body.decode()


@contextmanager
def collect_errors(
    file: Path, so_far: str
) -> Iterator[Callable[[object], AbstractContextManager[None]]]:
    """Yield a context that collects a connection's errors. Raise all errors at the end."""
    errors: list[str] = []

    @contextmanager
    def attempt(name: object) -> Iterator[None]:
        try:
            yield
        except InvalidConnectionError as invalid:
            errors.extend(f"{name}: {error}" for error in invalid.errors)

    yield attempt
    if errors:
        raise ConnectionsFileError(str(file), errors, so_far)
