"""How long an object takes from its bucket into Label Studio, with everything running."""

from __future__ import annotations

import operator
import os
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from benchmarks.load_contenders import BUCKET, CONFIG, bucket_at
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
"""Between two looks of a sensor, as it is unless it is set."""

PATIENCE = 10 * POLL_SECONDS

STEPS = (
    "until a sensor looks and asks for a run",
    "until the run's process has started",
    "until the task is in Label Studio",
    "in all",
)


def latency(url: str, puts: int, folder: Path) -> Section:
    """Put objects, at any moment between two looks, and time each one's way.

    ``url`` is the bucket server's; the environment names a Label Studio.
    """
    os.environ["LS_PIPELINE_HOME"] = str(folder / "home")
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["DAGSTER_HOME"] = str(create_dagster_home())
    cli, name = CliContext(), uuid4().hex
    source = {"type": "s3", "path": BUCKET, "params": {"prefix": name}}
    settings = build_connection(name, source=source, target=None, project=name, label_config=CONFIG)
    cli.ledger.save(settings, "benchmarks")
    bucket, chance, ways = bucket_at(url), random.Random(7), []  # noqa: S311
    print(f"{puts} objects, one after the other, with the daemon running", flush=True)  # noqa: T201
    with running([dagster_server(folder / "logs", dict(os.environ))]):
        bucket.put(f"{name}/first.json", b'{"text": "first"}', "application/json")
        wait_for_tasks(cli, name, 1)
        for number in range(2, puts + 2):
            time.sleep(chance.uniform(0, POLL_SECONDS))
            began = time.time()
            bucket.put(f"{name}/{number}.json", b'{"text": "one"}', "application/json")
            ended = wait_for_tasks(cli, name, number)
            run = run_before(cli.instance, ended)
            moments = [began, run.create_timestamp.timestamp(), run.start_time or 0.0, ended]
            ways.append([*map(operator.sub, moments[1:], moments), ended - began])
            print("  " + ", ".join(f"{one:.1f} s" for one in ways[-1]), flush=True)  # noqa: T201
    about = (
        f"{puts} objects, each put at any moment, with Dagster's daemon running as `ls-pipeline "
        f"start` starts it: its sensors look every {POLL_SECONDS} seconds, unless "
        "LS_PIPELINE_POLL_SECONDS says otherwise. Median and 95th percentile; each row begins "
        "where the one above ends."
    )
    return Section("From a bucket into Label Studio", f"{about}\n\n{table(STEPS, ways)}")


def table(steps: Sequence[str], ways: Sequence[Sequence[float]]) -> str:
    """Tell how long each step of some ways took, in Markdown."""
    rows = [
        f"| {step} | {np.quantile(took, 0.5):.1f} s | {np.quantile(took, 0.95):.1f} s |"
        for step, took in zip(steps, zip(*ways, strict=True), strict=True)
    ]
    return "\n".join(["| | p50 | p95 |", "| --- | --- | --- |", *rows])


def wait_for_tasks(cli: CliContext, title: str, tasks: int) -> float:
    """Wait until a project has so many tasks; give the time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        project = cli.label_studio.find_project(title)
        if project and project.tasks >= tasks:
            return time.time()
        time.sleep(0.2)
    raise TimeoutError("the object never came to Label Studio")


def run_before(instance: dg.DagsterInstance, moment: float) -> dg.RunRecord:
    """Give the run that was created last before a moment: the one that loaded."""
    records = instance.get_run_records(limit=5)
    return next(one for one in records if one.create_timestamp.timestamp() < moment)
