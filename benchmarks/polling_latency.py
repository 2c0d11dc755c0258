"""How long an object takes from its bucket into Label Studio, with the whole pipeline running."""

from __future__ import annotations

import operator
import os
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from benchmarks.fixtures import BUCKET, LABEL_CONFIG, open_bucket
from benchmarks.report import Section
from ls_pipeline.cli.context import CliContext, create_dagster_home
from ls_pipeline.cli.servers.local_servers import dagster_server
from ls_pipeline.cli.servers.server import running
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dagster as dg

POLL_SECONDS = 30
"""The default interval of a sensor."""

TIMEOUT = 10 * POLL_SECONDS

STEPS = (
    "until a sensor requests a run",
    "until the run's process has started",
    "until the task is in Label Studio",
    "total",
)


def polling_latency(url: str, puts: int, folder: Path) -> Section:
    """Put objects at random moments between two ticks, and time the steps of each.

    ``url`` is the bucket server's. The environment names a Label Studio.
    """
    os.environ["LS_PIPELINE_HOME"] = str(folder / "home")
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["DAGSTER_HOME"] = str(create_dagster_home())
    cli, name = CliContext(), uuid4().hex
    source = {"type": "s3", "path": BUCKET, "params": {"prefix": name}}
    settings = build_connection(
        name, source=source, target=None, project=name, label_config=LABEL_CONFIG
    )
    cli.ledger.save(settings, "benchmarks")
    bucket, chance = open_bucket(url), random.Random(7)  # noqa: S311
    durations: list[list[float]] = []
    print(f"{puts} objects, one after the other, with the daemon running", flush=True)  # noqa: T201
    with running([dagster_server(folder / "logs", dict(os.environ))]):
        bucket.put(f"{name}/first.json", b'{"text": "first"}', "application/json")
        wait_for_tasks(cli, name, 1)
        for number in range(2, puts + 2):
            time.sleep(chance.uniform(0, POLL_SECONDS))
            put = time.time()
            bucket.put(f"{name}/{number}.json", b'{"text": "one"}', "application/json")
            loaded = wait_for_tasks(cli, name, number)
            run = last_run_before(cli.instance, loaded)
            moments = [put, run.create_timestamp.timestamp(), run.start_time or 0.0, loaded]
            durations.append([*map(operator.sub, moments[1:], moments), loaded - put])
            print_durations(durations[-1])
    about = (
        f"{puts} objects, each put at a random moment. Dagster's daemon runs as `ls-pipeline "
        f"start` runs it, with ticks every {POLL_SECONDS} seconds, the default of "
        "LS_PIPELINE_POLL_SECONDS. Each row begins where the row above ends."
    )
    return Section("From a bucket into Label Studio", f"{about}\n\n{table(STEPS, durations)}")


def table(steps: Sequence[str], durations: Sequence[Sequence[float]]) -> str:
    """Return the median and 95th percentile of each step's durations, as a Markdown table."""
    rows = [
        f"| {step} | {np.quantile(seconds, 0.5):.1f} s | {np.quantile(seconds, 0.95):.1f} s |"
        for step, seconds in zip(steps, zip(*durations, strict=True), strict=True)
    ]
    return "\n".join(["| | p50 | p95 |", "| --- | --- | --- |", *rows])


def print_durations(durations: Sequence[float]) -> None:
    """Print the durations of one object's steps, as a sign of progress."""
    print("  " + ", ".join(f"{seconds:.1f} s" for seconds in durations), flush=True)  # noqa: T201


def wait_for_tasks(cli: CliContext, title: str, tasks: int) -> float:
    """Wait until a project has this many tasks; return the time."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        project = cli.label_studio.find_project(title)
        if project and project.tasks >= tasks:
            return time.time()
        time.sleep(0.2)
    raise TimeoutError("the object did not reach Label Studio")


def last_run_before(instance: dg.DagsterInstance, moment: float) -> dg.RunRecord:
    """Return the last run that was created before a moment."""
    records = instance.get_run_records(limit=5)
    return next(record for record in records if record.create_timestamp.timestamp() < moment)
