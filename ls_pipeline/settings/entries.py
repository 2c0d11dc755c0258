"""A connection as people write it in a YAML document."""

# No `from __future__ import annotations`: Dagster's components read the annotations.
import difflib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ls_pipeline.domain.errors import ConnectionsFileError, InvalidConnectionError
from ls_pipeline.settings.model import Connection, Source, Target
from ls_pipeline.settings.validation import adding_errors, build_connection

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


def connection_of(name: str, entry: Any, folder: Path) -> Connection:
    """Return the connection of an entry, whose sides `build_connection` checks.

    Raises ``InvalidConnectionError`` with every fault.
    """
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
        return read_text(file)
    except (OSError, ValueError) as error:
        errors.append(f"{setting} can't be read: {error}.")
        return ""


def read_text(file: Path) -> str:
    """Return a file's text. Raises ``OSError`` and ``ValueError``, also if it is too large."""
    with file.open("rb") as stream:
        body = stream.read(LARGEST_FILE + 1)
    if len(body) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return body.decode()


@contextmanager
def collect_errors(
    place: str, so_far: str
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
        raise ConnectionsFileError(place, errors, so_far)
