"""The flags that describe a connection, for `connections add` and `start --init`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.options import FILE
from ls_pipeline.settings.model import TITLE_LENGTHS, Connection
from ls_pipeline.settings.validation import adding_errors, build_connection, parse_params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = [
    click.option("--source", metavar="s3|gcs", help="The type of the bucket that tasks come from."),
    click.option("--source-path", metavar="BUCKET", default="", help="The source bucket's name."),
    click.option(
        "--source-params",
        metavar="JSON",
        default="{}",
        help="Params of the source, as a JSON object.",
    ),
    click.option(
        "--target",
        metavar="s3-completions|gcs-completions",
        help="The type of the bucket that labels are written to.",
    ),
    click.option("--target-path", metavar="BUCKET", default="", help="The target bucket's name."),
    click.option(
        "--target-params",
        metavar="JSON",
        default="{}",
        help="Params of the target, as a JSON object.",
    ),
    click.option(
        "--project",
        metavar="TITLE",
        help="The Label Studio project, which is created if it does not exist. [default: NAME]",
    ),
    click.option(
        "--label-config",
        metavar="FILE",
        type=FILE,
        help="An XML file: the label config of a new project.",
    ),
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
        with adding_errors(name, errors):
            return build_connection(
                name,
                source=_side("source", self.source, self.source_path, self.source_params, errors),
                target=_side("target", self.target, self.target_path, self.target_params, errors),
                project=name[: TITLE_LENGTHS[-1]] if self.project is None else self.project,
                label_config=_text(self.label_config, errors) if self.label_config else "",
                enabled=enabled,
            )


def _text(file: Path, errors: list[str]) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"--label-config {file} can't be read: {error}.")
        return ""


def _side(
    side: str, kind: str | None, path: str, params: str, errors: list[str]
) -> dict[str, Any] | None:
    parsed = parse_params(f"--{side}-params", params, errors)
    if kind is None:
        if path or parsed:
            errors.append(f"--{side}-path and --{side}-params need --{side}.")
        return None
    return {"type": kind, "path": path, "params": parsed}
