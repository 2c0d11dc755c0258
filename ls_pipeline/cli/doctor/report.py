"""What `doctor` found, and how a person reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ls_pipeline.cli.console import out, print_lines


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried, how it went, and what to do about it."""

    check: str
    state: Literal["ok", "failed", "warning", "skipped"]
    says: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody must be allowed: an IAM policy, or commands that give the roles."""

    whom: str
    policy: dict[str, Any] | None = None
    commands: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a person sets up once: commands, and what for."""

    so_that: str
    commands: list[str]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found about one connection."""

    checks: list[Check]
    policies: list[Policy]
    setups: list[Setup] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; ``connections`` are by name."""

    general: list[Check]
    connections: dict[str, Findings]

    @property
    def failed(self) -> bool:
        found = (one.checks for one in self.connections.values())
        return any(one.state == "failed" for checks in (self.general, *found) for one in checks)

    def as_json(self) -> dict[str, Any]:
        return {"ok": not self.failed, **asdict(self)}


MARKS = {"ok": "✓", "failed": "✗", "warning": "!", "skipped": "–"}  # noqa: RUF001 - it is one
PLAIN_MARKS = {"ok": "+", "failed": "x", "warning": "!", "skipped": "-"}
"""For a terminal that knows ASCII alone."""
COLOURS = {"ok": "green", "failed": "red", "warning": "yellow", "skipped": "dim"}


def show_findings(report: Report) -> None:
    """Print what was found in general, then by connection, with the permissions it needs."""
    print_lines("In general", style="bold")
    for check in report.general:
        _show_check(check)
    for name, found in report.connections.items():
        print_lines("")
        print_lines(f"Connection {name}", style="bold")
        for check in found.checks:
            _show_check(check)
        for policy in found.policies:
            _show_policy(policy)
        for setup in found.setups:
            print_lines(f"  So that {setup.so_that}:", style="dim")
            for command in setup.commands:
                print_lines(f"    {command}")


def _show_check(check: Check) -> None:
    marks = PLAIN_MARKS if out.options.ascii_only else MARKS
    print_lines(
        f"  {marks[check.state]} {check.check:<14}  {check.says}", style=COLOURS[check.state]
    )
    if check.do:
        print_lines(f"    {'':<14}  {check.do}")


def _show_policy(policy: Policy) -> None:
    print_lines(f"  The least that {policy.whom} must be allowed:", style="dim")
    lines = policy.commands or json.dumps(policy.policy, indent=2).splitlines()
    for line in lines:
        print_lines(f"    {line}")
