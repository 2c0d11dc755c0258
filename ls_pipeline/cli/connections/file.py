"""The YAML file of connections, for deployments kept in git."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ls_pipeline.domain.errors import ConnectionsFileError, InvalidConnectionError
from ls_pipeline.settings.model import Source, Target
from ls_pipeline.settings.validation import adding_errors, build_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ls_pipeline.settings.model import Connection


class Entry(BaseModel):
    """One connection; at least one of source and target."""

    model_config = ConfigDict(extra="forbid")

    source: Source | None = Field(default=None, description="Where tasks come from.")
    target: Target | None = Field(default=None, description="Where completions go.")
    project: str = Field(
        default="", description="The Label Studio project's title, made if absent; by default NAME."
    )
    label_config: str = Field(default="", description="What a new project is made with: XML.")
    label_config_file: str = Field(
        default="", description="A file with the label config, relative to this one."
    )
    enabled: bool = Field(default=True, description="False: no sensor and no pass works on it.")


class ConnectionsFile(BaseModel):
    """Connections of ls_pipeline, by their names."""

    model_config = ConfigDict(extra="forbid", title="ls_pipeline connections")

    connections: dict[str, Entry]


def json_schema() -> dict[str, Any]:
    """Give the file's JSON Schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConnectionsFile.model_json_schema(),
    }


def read(file: Path) -> list[Connection]:
    """Read the connections of a file.

    Raises ``ConnectionsFileError`` with every fault of every connection.
    """
    document = _parsed(file)
    if not isinstance(document, dict) or not isinstance(document.get("connections"), dict):
        raise ConnectionsFileError(str(file), ["It has no mapping `connections:` of names."])
    found = []
    with all_errors(file, "nothing was stored") as attempt:
        for name in document.keys() - {"connections"}:
            with attempt(name):
                raise InvalidConnectionError(
                    name, ["This stands beside `connections:`, not in it."]
                )
        for name, entry in document["connections"].items():
            with attempt(name):
                found.append(_connection(str(name), entry, file.parent))
    return found


def _parsed(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ConnectionsFileError(str(file), [f"It can't be read: {said}."]) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML where a key that stands twice is a fault, not a loss."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flat: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take in what `<<` brings; before, see that no key of the mapping's own is there twice."""
        if id(node) not in self._flat:
            self._flat.add(id(node))
            merge = "tag:yaml.org,2002:merge"
            own = [(key.tag, key.value) for key, _ in node.value if key.tag != merge]
            if len(set(map(str, own))) < len(own):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key stands twice in one mapping", node.start_mark
                )
        super().flatten_mapping(node)


def _connection(name: str, entry: Any, folder: Path) -> Connection:
    """Check one entry; pydantic sees its outside, `connection` its parts."""
    if not isinstance(entry, dict):
        raise InvalidConnectionError(name, ["It is no mapping with source, target and project."])
    errors: list[str] = []
    outside = {key: value for key, value in entry.items() if key not in {"source", "target"}}
    try:
        checked = Entry.model_validate(outside, strict=True)
    except ValidationError as error:
        errors += [_sentence(one) for one in error.errors()]
        checked = Entry()
    parts = {side: entry.get(side) for side in ("source", "target")}
    for side, part in parts.items():
        if part is not None and not isinstance(part, dict):
            errors.append(f"The {side} is a mapping with type, path and params.")
            parts[side] = None
    label_config = checked.label_config
    if checked.label_config_file:
        label_config = _text(folder / checked.label_config_file, errors)
    with adding_errors(name, errors):
        return build_connection(
            name,
            **parts,
            project=checked.project or name,
            label_config=label_config,
            enabled=checked.enabled,
        )


def _sentence(error: Any) -> str:
    setting = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(setting, Entry.model_fields, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"There is no setting {setting!r}{hint}; there are: {', '.join(Entry.model_fields)}."
    return f"{setting}: {error['msg']}."


def _text(file: Path, errors: list[str]) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"label_config_file can't be read: {error}.")
        return ""


@contextmanager
def all_errors(
    file: Path, so_far: str
) -> Iterator[Callable[[object], AbstractContextManager[None]]]:
    """Try each connection though another has errors; raise for all of them at the end."""
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
