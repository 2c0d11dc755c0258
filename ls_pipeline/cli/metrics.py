"""``ls-pipeline metrics``: the state of all connections, for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import verbatim
from ls_pipeline.domain.diff import State
from ls_pipeline.resources.ledger.records import LOOKS, WORKS
from ls_pipeline.resources.ledger.status import failures_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ls_pipeline.resources.ledger.ledger import Ledger

EPILOG = verbatim("""
Examples:
  ls-pipeline metrics
  ls-pipeline metrics --output /var/lib/node_exporter/ls_pipeline.prom
                                 for node_exporter's textfile collector, by cron
""")

GAUGES = {
    "failing": (
        "1 if a run fails or is not started, or sensors can't see bucket or Label Studio.",
    ),
    "objects": ("Objects of the source.", "state"),
    "objects_waiting": (
        "Objects that a sensor saw new or changed, at least, and that no run has loaded.",
    ),
    "tasks": ("Tasks that the ledger knows.",),
    "quarantined": ("Objects and rows that can't become tasks.",),
    "completions": ("Completions in the target.",),
    "failures_in_a_row": ("Failed runs since the last one that succeeded.", "work"),
    "last_success_timestamp_seconds": ("When a run last succeeded; 0: never.", "work"),
    "failing_look_since_timestamp_seconds": (
        "Since when sensors can't see whether a run is needed, or Dagster starts none; 0: not.",
        "work",
    ),
    "oldest_change_age_seconds": (
        "How long ago a sensor first saw a change that no run has dealt with; 0: none.",
        "work",
    ),
}
"""Name of each metric, without ``ls_pipeline_``: its help, and its labels after ``connection``."""

SEEN = ("tasks", "completions")
"""The work that a change of a bucket or of labels needs."""


@click.command(epilog=EPILOG, short_help="Print the state of connections for Prometheus.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace this file, whole or not at all, instead of printing.",
)
def metrics(output: Path | None) -> None:
    """Print the state of all connections in Prometheus' text format.

    It reads only the ledger.
    """
    from prometheus_client import generate_latest, write_to_textfile  # few need it

    collected = collect(CliContext().ledger)
    if output:
        write_to_textfile(str(output), collected)
    else:
        print_lines(*generate_latest(collected).decode().splitlines())


def collect(ledger: Ledger) -> CollectorRegistry:
    """Return the metrics of all connections as of now."""
    from prometheus_client import CollectorRegistry, Gauge

    collected = CollectorRegistry()
    gauges = {
        name: Gauge(f"ls_pipeline_{name}", text, ["connection", *labels], registry=collected)
        for name, (text, *labels) in GAUGES.items()
    }
    for status in ledger.statuses():
        name, objects = status.name, status.ledger.objects
        failing = status.settings.enabled and bool(failures_of(status))
        gauges["failing"].labels(name).set(failing)
        gauges["tasks"].labels(name).set(objects.count_tasks())
        gauges["quarantined"].labels(name).set(objects.count_quarantined())
        gauges["completions"].labels(name).set(status.ledger.exports.count()[0])
        states = objects.count()
        for state in State:
            gauges["objects"].labels(name, state.value).set(states[state])
        change = status.seen_changes.get("tasks")
        waiting = max(change.objects if change else 0, states[State.BEGUN])
        gauges["objects_waiting"].labels(name).set(waiting)
        for work in WORKS:
            health = status.health(work)
            gauges["failures_in_a_row"].labels(name, work).set(health.failures)
            gauges["last_success_timestamp_seconds"].labels(name, work).set(health.passed_at)
        for work in SEEN:
            change = status.seen_changes.get(work)
            age = max(status.read_at - change.since, 0.0) if change else 0
            gauges["oldest_change_age_seconds"].labels(name, work).set(age)
        for work in LOOKS:
            look = status.failed_looks.get(work)
            since = look.since if look else 0
            gauges["failing_look_since_timestamp_seconds"].labels(name, work).set(since)
    return collected
