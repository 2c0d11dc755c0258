"""The flags that describe a connection, for `connections add` and `start --init`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.options import FILE
from ls_pipeline.settings.entries import read_label_config
from ls_pipeline.settings.model import TITLE_LENGTHS, Connection
from ls_pipeline.settings.validation import adding_errors, build_connection, parse_params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _side_options(side: str, types: str, purpose: str) -> list[Callable[..., Any]]:
    path, params = f"The {side} bucket's name.", f"Params of the {side}, as a JSON object."
    return [
        click.option(f"--{side}", metavar=types, help=f"The type of the bucket that {purpose}."),
        click.option(f"--{side}-path", metavar="BUCKET", default="", help=path),
        click.option(f"--{side}-params", metavar="JSON", default="{}", help=params),
    ]


PROJECT = "The Label Studio project, which is created if it does not exist. [default: NAME]"
LABEL_CONFIG = "An XML file: the label config of a new project."
OPTIONS = [
    *_side_options("source", "s3|gcs", "tasks come from"),
    *_side_options("target", "s3-completions|gcs-completions", "labels are written to"),
    click.option("--project", metavar="TITLE", help=PROJECT),
    click.option("--label-config", metavar="FILE", type=FILE, help=LABEL_CONFIG),
]


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of `ConnectionFlags` to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class ConnectionFlags:
    """The values of the flags that `connection_options` adds."""

    source: str | None
    source_path: str
    source_params: str
    target: str | None
    target_path: str
    target_params: str
    project: str | None
    label_config: Path | None

    def build(self, name: str, *, enabled: bool = True) -> Connection:
        """Return the connection. Raises ``InvalidConnectionError`` with every error."""
        errors: list[str] = []
        label_config = ""
        if file := self.label_config:
            label_config = read_label_config(file, f"--label-config {file}", errors)
        with adding_errors(name, errors):
            return build_connection(
                name,
                source=_side("source", self.source, self.source_path, self.source_params, errors),
                target=_side("target", self.target, self.target_path, self.target_params, errors),
                project=name[: TITLE_LENGTHS[-1]] if self.project is None else self.project,
                label_config=label_config,
                enabled=enabled,
            )


def _side(
    side: str, kind: str | None, path: str, params: str, errors: list[str]
) -> dict[str, Any] | None:
    parsed = parse_params(f"--{side}-params", params, errors)
    if kind is None:
        if path or parsed:
            errors.append(f"--{side}-path and --{side}-params need --{side}.")
        return None
    return {"type": kind, "path": path, "params": parsed}
