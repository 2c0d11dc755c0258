"""Many connections in one deployment, for hours: ``python -m benchmarks.load --minutes 120``.

Writes a page with a chart, and what was sampled to files aside. All is real but the source buckets;
the ledger and Dagster's storage are on SQLite, or on a PostgreSQL server whose address is given.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from benchmarks import load_report
from benchmarks.contender import ENVIRONMENT
from benchmarks.deployment import Shape, fill, made_up_buckets, pipeline
from benchmarks.idle_ticks import ticks_alone
from benchmarks.resource_samples import Databases, Sampling, Took, rows, ticks
from benchmarks.traffic import World
from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.cli.servers.local_servers import label_studio_server, s3_server
from ls_pipeline.cli.servers.server import running
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.resource_samples import Sample

GRACE = 300.0
"""Seconds that the last changes have to arrive in; when they have, nobody waits."""


@dataclass(frozen=True)
class Served:
    """The addresses of source buckets and of the target's, and Label Studio's process."""

    source_url: str
    target_url: str
    label_studio: int


@contextmanager
def servers(folder: Path, shape: Shape, latency: float) -> Iterator[Served]:
    """Run buckets and a Label Studio, and lead clients there."""
    target = s3_server(folder / "logs")
    labels = label_studio_server(folder / "label-studio", folder / "logs", ENVIRONMENT)
    with made_up_buckets(shape, latency) as source_url, running([target, labels]):
        os.environ.update({**ENVIRONMENT, **labels.client_environment})
        process = labels._process  # noqa: SLF001
        yield Served(source_url, target.url, process.pid if process else 0)


@dataclass(frozen=True)
class Watch:
    """For how long to watch a deployment, how often to sample it, and the folder for all of it."""

    seconds: float
    every: float
    folder: Path


def watched(
    home: Path,
    world: World,
    watch: Watch,
    databases: Databases,
    environment: Mapping[str, str],
) -> tuple[list[Sample], list[Took]]:
    """Start everything in a filled home, and have its world change meanwhile."""
    start = pipeline(home, environment)
    with ExitStack() as stack:
        stack.enter_context(running([start]))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home / "dagster")))
        process = start._process  # noqa: SLF001
        sampling = Sampling(process.pid if process else 0, databases, watch.folder)
        end = time.time() + watch.seconds
        while (now := time.time()) < end or (world.waiting and now < end + GRACE):
            if now < end:
                world.happen()
            world.look()
            if now >= sampling.began + len(sampling.samples) * watch.every:
                sampling.look(instance, len(world.waiting))
                world.write(watch.folder / "changes.csv")
            time.sleep(0.5)
        took = ticks(instance)
        rows(watch.folder / "ticks.csv", map(astuple, took))
        return sampling.samples, took


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Set everything up, watch it, and write what was seen."""
    shape = Shape(asked.connections, asked.objects, asked.big)
    home = folder / "home"
    os.environ["LS_PIPELINE_HOME"] = str(home)
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    databases = Databases(home, asked.postgresql)
    databases.prepare(create_dagster_home())
    with servers(folder, shape, asked.latency) as served:
        ledger = Ledger(database_url())
        print(f"Filling {shape} …", flush=True)  # noqa: T201
        fill(ledger, shape, served.source_url, served.target_url)
        print("Watching …", flush=True)  # noqa: T201
        world = World(ledger, shape, served.source_url, (asked.puts, asked.labels))
        watch = Watch(asked.minutes * 60, asked.sample, asked.raw)
        samples, took = watched(home, world, watch, databases, databases.environment)
        alone = ticks_alone(ledger, served.label_studio)
    load_report.write(asked, samples, took, world.changes, alone)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--objects", type=int, default=1000, help="Of each connection.")
    parser.add_argument("--big", type=int, default=100_000, help="Objects of one more.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--puts", type=float, default=20, help="Seconds between two, on average.")
    parser.add_argument("--labels", type=float, default=30, help="Seconds between two, likewise.")
    parser.add_argument("--sample", type=float, default=30, help="Seconds between two samples.")
    parser.add_argument("--latency", type=float, default=0.08, help="Seconds before an answer.")
    parser.add_argument("--postgresql", default="", help="USER:PASSWORD@HOST:PORT of a server.")
    raw = Path(tempfile.gettempdir(), "ls-pipeline-load")
    parser.add_argument("--raw", type=Path, default=raw, help="Folder for what was sampled.")
    parser.add_argument("--output", type=Path, default=Path("docs/load.md"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, Path(folder))


if __name__ == "__main__":
    main()
