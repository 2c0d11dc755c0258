"""Output for people and scripts: lines, JSON, tables, and progress bars on a terminal.

Everything is printed here, so that keys, reasons and titles, which strangers may have written,
control no terminal. The linter refuses other ways to print.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, ConsoleDimensions
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from ls_pipeline.domain.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID


NO_TERMINAL_WIDTH = 10_000
"""Columns of a pipe or a file."""


class PlainConsole(Console):
    """A console to which text is only text: no markup, no emoji codes, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property  # type: ignore[misc]  # no one sets it
    def size(self) -> ConsoleDimensions:
        """The size of the terminal. What goes to a pipe or a file is not wrapped nor cut."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(NO_TERMINAL_WIDTH, 25)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, which may be a cell of a table, as one line that controls nothing."""
        return super().render_str(visible(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


def prepare_streams() -> None:
    """Have output fail for no character, and for no stream that the caller closed.

    A closed stream's number would go to the next file that is opened, such as a database.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error's
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_lines(*lines: str, style: str = "") -> None:
    """Print lines without wrapping."""
    for line in lines:
        out.print(line, style=style, soft_wrap=True)


def print_error(text: str) -> None:
    """Print an error, which may have several lines, in red on standard error."""
    for line in text.split("\n"):
        err.print(line, style="red", soft_wrap=True)


def styled(text: str, style: str, *, no_wrap: bool = False) -> Text:
    """Return a text for a table or below one."""
    return Text(visible(text), style, no_wrap=no_wrap, overflow="ignore" if no_wrap else None)


def print_json(value: object, indent: int | None = None) -> None:
    """Print one JSON document, by default on one line. It is ASCII, without control characters."""
    click.echo(json.dumps(value, indent=indent).replace("\x7f", r"\u007f"))


def print_result(document: object, sentence: str, *, as_json: bool) -> None:
    """Print what a command did: for scripts as JSON, for people as a sentence."""
    if as_json:
        print_json(document)
    else:
        print_lines(sentence)


def print_no_connections() -> None:
    """Print that the list of connections is empty, and how to add one."""
    print_lines("There are no connections yet. To add one, see ls-pipeline connections add --help.")


class ProgressBars:
    """Progress bars, one for each connection and step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self.are_visible = not progress.disable

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Show progress. Without ``total`` the bar only moves."""
        title = visible(f"{connection}: {doing}")
        if title not in self._bars:
            self._bars[title] = self._progress.add_task(title, total=total)
        self._progress.update(self._bars[title], completed=done, total=total)


@contextmanager
def show_progress() -> Iterator[ProgressBars]:
    """Show progress bars on standard error if it is a terminal."""
    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    disable = not sys.stderr.isatty()
    with Progress(*columns, console=err, transient=True, disable=disable) as progress:
        yield ProgressBars(progress)


COUNT_TITLES = {
    "objects": "Objects",
    "tasks": "Tasks",
    "completions": "Completions",
    "json_files": "JSON files",
    "parquet_rows": "Parquet rows",
    "quarantined": "Quarantined",
    "removed": "Removed",
}


def show_counts(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of counts with a row for each connection, and errors below it."""
    columns = [name for name in COUNT_TITLES if any(name in report for report in reports.values())]
    table = Table("Connection")
    for column in columns:
        table.add_column(COUNT_TITLES[column], justify="right")
    for connection, report in reports.items():
        counts = ["?" if report.get(name) is None else str(report[name]) for name in columns]
        table.add_row(connection, *counts)
    out.print(table)
    for connection, report in reports.items():
        if "error" in report:
            print_error(visible(f"{connection}: {report['error']}"))
