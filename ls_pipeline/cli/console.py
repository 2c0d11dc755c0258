"""What a person sees: tables, and bars on a terminal only."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID

    from ls_pipeline.cli.doctor.checks import Check, Policy, Report

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


MARKS = {"ok": "✓", "failed": "✗", "warning": "!", "skipped": "–"}  # noqa: RUF001 - it is one
PLAIN_MARKS = {"ok": "+", "failed": "x", "warning": "!", "skipped": "-"}
"""For a terminal that knows ASCII alone."""
COLOURS = {"ok": "green", "failed": "red", "warning": "yellow", "skipped": "dim"}


def show_findings(report: Report) -> None:
    """Print what was found in general, then by connection, with the permissions it needs."""
    _line("In general", "bold")
    for check in report.general:
        _show_check(check)
    for name, found in report.connections.items():
        _line("")
        _line(f"Connection {name}", "bold")
        for check in found.checks:
            _show_check(check)
        for policy in found.policies:
            _show_policy(policy)
        for setup in found.setups:
            _line(f"  So that {setup.so_that}:", "dim")
            for command in setup.commands:
                _line(f"    {command}")


def _show_check(check: Check) -> None:
    marks = PLAIN_MARKS if out.options.ascii_only else MARKS
    _line(f"  {marks[check.state]} {check.check:<14}  {check.says}", COLOURS[check.state])
    if check.do:
        _line(f"    {'':<14}  {check.do}")


def _show_policy(policy: Policy) -> None:
    _line(f"  The least that {policy.whom} must be allowed:", "dim")
    lines = policy.commands or json.dumps(policy.policy, indent=2).splitlines()
    for line in lines:
        _line(f"    {line}")


def _line(text: str, style: str = "") -> None:
    out.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


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
