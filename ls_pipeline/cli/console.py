"""What a person sees: tables, and bars on a terminal only."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID


out = Console()
err = Console(stderr=True)


def print_lines(*lines: str) -> None:
    """Print lines as they are."""
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def print_error(text: str) -> None:
    """Print on the error stream what went wrong."""
    err.print(text, style="red", soft_wrap=True, markup=False, highlight=False)


class ProgressBars:
    """Progress bars, one for each connection and kind of work."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self.are_seen = not progress.disable

    def advance(self, connection: str, doing: str, done: int, total: int | None = None) -> None:
        """Show how far the work has come; without ``total`` the bar only moves."""
        title = f"{connection}: {doing}"
        if title not in self._bars:
            self._bars[title] = self._progress.add_task(title, total=total)
        self._progress.update(self._bars[title], completed=done, total=total)


@contextmanager
def show_progress() -> Iterator[ProgressBars]:
    """Show progress on standard error; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        yield ProgressBars(progress)


def show_counts(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of counts, a row a connection, and what went wrong below it."""
    titles = {
        "objects": "Objects",
        "tasks": "Tasks",
        "completions": "Completions",
        "json_files": "JSON files",
        "parquet_rows": "Parquet rows",
        "quarantined": "Quarantined",
        "removed": "Removed",
    }
    shown = [name for name in titles if any(name in report for report in reports.values())]
    table = Table("Connection")
    for name in shown:
        table.add_column(titles[name], justify="right")
    for connection, report in reports.items():
        counts = ["?" if report.get(name) is None else str(report[name]) for name in shown]
        table.add_row(connection, *counts)
    out.print(table)
    for connection, report in reports.items():
        if "error" in report:
            err.print(
                f"{connection}: {report['error']}",
                style="red",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
