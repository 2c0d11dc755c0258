"""``ls-pipeline status``: all connections at a glance, from the ledger alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ls_pipeline.cli.console import out
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import CONNECTIONS, json_instead_of
from ls_pipeline.domain.diff import State
from ls_pipeline.resources.environment import label_studio_address, label_studio_public_url
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from ls_pipeline.resources.ledger.connection import Account

SECONDS = 2.0
"""Between two looks of ``--watch``."""

EPILOG = """
\b
Examples:
  ls-pipeline status           all connections
  ls-pipeline status --watch   the same, refreshed until Ctrl-C
  ls-pipeline status --json    one JSON object; times in seconds since 1970

\b
State: well; at work; fails, with the reason and the next try below; disabled; waits for its
first pass.
"""


@dataclass(frozen=True, slots=True)
class Status:
    """What the ledger says of a connection."""

    enabled: bool
    objects: int
    """Loaded."""
    tasks: int
    labeled: int
    """Tasks with a finished annotation, as of the last export."""
    exported: int
    quarantined: int
    snapshot: str
    """The URI of the newest; empty before the first."""
    passed_at: float
    """When a pass last went well; 0: never."""
    working: str
    """Who is at work on it now."""
    failures: dict[str, str]
    """Work → what is wrong, where passes fail."""
    retry_at: float
    """When the first of these is tried again; 0: none fails."""
    projects: list[str]
    """Their addresses in Label Studio, first the one that takes new tasks; none before the first
    pass."""


def status_of(account: Account, address: str) -> Status:
    """Look at one connection; ``address`` is where people open Label Studio."""
    works = {work: account.health(work) for work in WORKS}
    failing = {work: health for work, health in works.items() if health.failures}
    newest_first = reversed(account.projects().values())
    return Status(
        enabled=account.revision().connection.enabled,
        objects=account.count_objects()[State.LOADED],
        tasks=account.count_tasks(),
        labeled=account.annotated(),
        exported=account.count_exported()[0],
        quarantined=account.count_quarantined(),
        snapshot=account.training().snapshot_uri,
        passed_at=max(health.passed_at for health in works.values()),
        working=account.held_by(),
        failures={work: health.failure for work, health in failing.items()},
        retry_at=min((health.retry_at for health in failing.values()), default=0.0),
        projects=[f"{address}/projects/{one}/data" for one in newest_first],
    )


@click.command(epilog=EPILOG, short_help="All connections at a glance.")
@CONNECTIONS
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@json_instead_of("a table")
def status(names: tuple[str, ...], watch: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Show how connections stand: what is loaded, labeled, exported, and what is wrong.

    Reads the ledger alone: no bucket is listed, and nothing is changed.
    """
    if watch and as_json:
        raise click.UsageError("--json shows one look; leave out --watch.")
    cli = CliContext()
    found = _look(names, cli)
    if as_json:
        told = {name: asdict(one) for name, one in found.items()}
        click.echo(json.dumps({"connections": told}))
    elif not found:
        out.print("There are no connections yet; see ls-pipeline connections add --help.")
    elif watch:
        _watch(names, cli)
    else:
        out.print(_shown(found, time.time()))


def _look(names: tuple[str, ...], cli: CliContext) -> dict[str, Status]:
    ledger, address = cli.ledger, label_studio_public_url(label_studio_address().url)
    return {name: status_of(ledger.account(name), address) for name in names or ledger.names()}


def _watch(names: tuple[str, ...], cli: CliContext) -> None:
    try:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(_shown(_look(names, cli), time.time()), refresh=True)
                time.sleep(SECONDS)
    except KeyboardInterrupt:
        return


COUNTS = ("objects", "tasks", "labeled", "exported", "quarantined")


def _shown(found: dict[str, Status], now: float) -> Group:
    """Show a row for each connection, which 80 columns hold, and sentences below the table."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Connection", overflow="fold", min_width=12)
    for name in COUNTS:
        table.add_column(name.capitalize(), justify="right", no_wrap=True)
    table.add_column("Last pass", no_wrap=True)
    table.add_column("State", no_wrap=True)
    below = []
    for name, one in found.items():
        counts = [f"{getattr(one, count):,}" for count in COUNTS]
        state, colour = _state(one)
        table.add_row(name, *counts, _ago(one.passed_at, now), Text(state, colour))
        if one.enabled and one.failures:
            below.append(Text(f"{name}: {_failing(one, now)}", "red"))
        below += [
            Text(f"{name}: {project}", "dim", no_wrap=True, overflow="ignore")
            for project in one.projects
        ]
    return Group(table, *below)


def _state(one: Status) -> tuple[str, str]:
    """Give a word for how a connection stands, and its colour."""
    if not one.enabled:
        return "disabled", "dim"
    if one.working:
        return "at work", "cyan"
    if one.failures:
        return "fails", "red"
    return ("well", "green") if one.passed_at else ("waits", "dim")


def _failing(one: Status, now: float) -> str:
    what = " ".join(dict.fromkeys(one.failures.values()))
    at = datetime.fromtimestamp(one.retry_at, timezone.utc)
    return f"{what} Trying again {f'at {at:%H:%M:%S} UTC' if one.retry_at > now else 'now'}."


def _ago(then: float, now: float) -> str:
    if not then:
        return "never"
    seconds = max(now - then, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
