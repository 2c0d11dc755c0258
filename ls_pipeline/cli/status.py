"""``ls-pipeline status``: the state of all connections, as the ledger has it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table

from ls_pipeline.cli.console import out, print_json, print_no_connections, styled
from ls_pipeline.cli.context import CliContext, connection_ledgers
from ls_pipeline.cli.options import CONNECTIONS, FAILED, json_instead_of, verbatim
from ls_pipeline.domain.diff import State
from ls_pipeline.resources.environment import label_studio_address, label_studio_public_url
from ls_pipeline.resources.ledger.health import at_time
from ls_pipeline.resources.ledger.records import WORKS
from ls_pipeline.resources.ledger.status import failing_since, failures_of

if TYPE_CHECKING:
    from ls_pipeline.resources.ledger.status import ConnectionStatus

REFRESH_SECONDS = 2.0
"""The interval of ``--watch``."""

EPILOG = verbatim("""
Examples:
  ls-pipeline status           all connections
  ls-pipeline status --watch   the same, refreshed until Ctrl-C
  ls-pipeline status --json    one JSON object; times are Unix timestamps

States:
  ok         nothing fails
  running    a run works on it now
  waiting    no run has ended yet
  failing    the error and the time of the next try are below the table
  disabled   sensors and runs skip it
""")


@dataclass(frozen=True, slots=True)
class Status:
    """What the ledger says about a connection. The fields are the keys of ``--json``."""

    enabled: bool
    objects: int
    """Objects that were loaded."""
    tasks: int
    labeled: int
    """Tasks with a finished annotation, as of the last export."""
    exported: int
    quarantined: int
    snapshot: str
    """The URI of the newest snapshot, or empty."""
    passed_at: float
    """When a run last succeeded, or 0."""
    working: str
    """The run that works on it now, or empty."""
    failures: dict[str, str]
    """The error of each kind of work that fails, or that sensors can't see the need for."""
    failing_since: dict[str, float]
    """When each of the failures began. Refused settings have no such time."""
    retry_at: float
    """The earliest time of a next try, or 0."""
    projects: list[str]
    """URLs of its Label Studio projects. The first one gets new tasks."""


def status_of(status: ConnectionStatus, address: str) -> Status:
    """Return the status of one connection. ``address`` is Label Studio's public URL."""
    ledger, healths = status.ledger, [status.health(work) for work in WORKS]
    return Status(
        enabled=status.settings.enabled,
        objects=ledger.objects.count()[State.LOADED],
        tasks=ledger.objects.count_tasks(),
        labeled=ledger.exports.annotated(),
        exported=ledger.exports.count()[0],
        quarantined=ledger.objects.count_quarantined(),
        snapshot=status.snapshot.snapshot_uri,
        passed_at=max(health.passed_at for health in healths),
        working=status.held_by,
        failures=failures_of(status),
        failing_since=failing_since(status),
        retry_at=min((health.retry_at for health in healths if health.failures), default=0.0),
        projects=[f"{address}/projects/{id_}/data" for id_ in reversed(status.project_ids)],
    )


@click.command(epilog=EPILOG, short_help="Show the state of connections.")
@CONNECTIONS
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@json_instead_of("a table")
@click.pass_context
def status(
    ctx: click.Context,
    names: tuple[str, ...],
    watch: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show what is loaded, labeled and exported, and what fails.

    It reads only the ledger, where sensors record what they can't see. It lists no bucket and
    changes nothing. The exit code is 1 if an enabled connection is failing.
    """
    if watch and as_json:
        raise click.UsageError("--json and --watch can't be combined.")
    cli = CliContext()
    statuses = _statuses(names, cli)
    if as_json:
        print_json({"connections": {name: asdict(status) for name, status in statuses.items()}})
    elif not statuses:
        print_no_connections()
    elif watch:
        _watch(names, cli)
    else:
        out.print(_table(statuses, cli.ledger.now()))
    if not watch and any(each.enabled and each.failures for each in statuses.values()):
        ctx.exit(FAILED)


def _statuses(names: tuple[str, ...], cli: CliContext) -> dict[str, Status]:
    address = label_studio_public_url(label_studio_address().url)
    statuses = {status.name: status for status in cli.ledger.statuses()}
    names = tuple(connection_ledgers(cli.ledger, names))  # an unknown name raises
    return {name: status_of(statuses[name], address) for name in names if name in statuses}


def _watch(names: tuple[str, ...], cli: CliContext) -> None:
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(_table(_statuses(names, cli), cli.ledger.now()), refresh=True)
            time.sleep(REFRESH_SECONDS)


COUNTS = ("objects", "tasks", "labeled", "exported", "quarantined")


def _table(statuses: dict[str, Status], now: float) -> Group:
    """Return a table that fits 80 columns, with errors and project links below it."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Connection", overflow="fold", min_width=12)
    for count in COUNTS:
        table.add_column(count.capitalize(), justify="right", no_wrap=True)
    table.add_column("Last run", no_wrap=True)
    table.add_column("State", no_wrap=True)
    below = []
    for name, status in statuses.items():
        counts = [f"{getattr(status, count):,}" for count in COUNTS]
        state, color = _state(status)
        table.add_row(name, *counts, _ago(status.passed_at, now), styled(state, color))
        if status.enabled and status.failures:
            below.append(styled(f"{name}: {_errors(status, now)}", "red"))
        below += [styled(f"{name}: {project}", "dim", no_wrap=True) for project in status.projects]
    return Group(table, *below)


def _state(status: Status) -> tuple[str, str]:
    """Return the word for a connection's state, and its color."""
    if not status.enabled:
        return "disabled", "dim"
    if status.working:
        return "running", "cyan"
    if status.failures:
        return "failing", "red"
    return ("ok", "green") if status.passed_at else ("waiting", "dim")


def _errors(status: Status, now: float) -> str:
    errors = " ".join(dict.fromkeys(status.failures.values()))
    when = at_time(status.retry_at, now) if status.retry_at > now else "now"
    return f"{errors} Trying again {when}."


def _ago(then: float, now: float) -> str:
    if not then:
        return "never"
    seconds = max(now - then, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
