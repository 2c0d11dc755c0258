"""What `doctor` reports, and how it is printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ls_pipeline.cli.console import out, print_lines

if TYPE_CHECKING:
    from ls_pipeline.domain.errors import PipelineError


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check: what was found, and what to do about it.

    The fields of all classes here are keys of ``--json``.
    """

    check: str
    state: Literal["ok", "failed", "warning", "skipped"]
    says: str
    do: str = ""

    @classmethod
    def from_error(cls, check: str, error: PipelineError) -> Check:
        """Return a failed check with an error's message and hint."""
        return cls(check, "failed", error.message, error.hint)


@dataclass(frozen=True, slots=True)
class Policy:
    """The permissions that an account needs: an IAM policy, or commands that grant roles."""

    whom: str
    policy: dict[str, Any] | None = None
    commands: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Setup:
    """Commands that an operator runs once, and their purpose."""

    so_that: str
    commands: list[str]


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings about one connection."""

    checks: list[Check]
    policies: list[Policy]
    setups: list[Setup] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings. Those about connections are by name."""

    general: list[Check]
    connections: dict[str, Findings]

    @property
    def failed(self) -> bool:
        by_connection = (findings.checks for findings in self.connections.values())
        return any(map(has_failed, [self.general, *by_connection]))

    def as_json(self) -> dict[str, Any]:
        return {"ok": not self.failed, **asdict(self)}


def has_failed(checks: list[Check]) -> bool:
    """Return whether any of the checks failed."""
    return any(check.state == "failed" for check in checks)


MARKS = {"ok": "✓", "failed": "✗", "warning": "!", "skipped": "–"}  # noqa: RUF001 - an en dash
ASCII_MARKS = {"ok": "+", "failed": "x", "warning": "!", "skipped": "-"}
"""For a terminal that can print only ASCII."""
COLORS = {"ok": "green", "failed": "red", "warning": "yellow", "skipped": "dim"}


def print_report(report: Report) -> None:
    """Print the general checks, then the findings about each connection."""
    print_lines("General", style="bold")
    for check in report.general:
        _print_check(check)
    for name, findings in report.connections.items():
        print_lines("")
        print_lines(f"Connection {name}", style="bold")
        for check in findings.checks:
            _print_check(check)
        for policy in findings.policies:
            lines = policy.commands or json.dumps(policy.policy, indent=2).splitlines()
            _print_block(f"Minimum permissions for {policy.whom}:", lines)
        for setup in findings.setups:
            _print_block(f"Run once, so that {setup.so_that}:", setup.commands)


def _print_check(check: Check) -> None:
    mark = (ASCII_MARKS if out.options.ascii_only else MARKS)[check.state]
    print_lines(f"  {mark} {check.check:<14}  {check.says}", style=COLORS[check.state])
    if check.do:
        print_lines(f"    {'':<14}  {check.do}")


def _print_block(title: str, lines: list[str]) -> None:
    print_lines(f"  {title}", style="dim")
    print_lines(*(f"    {line}" for line in lines))
