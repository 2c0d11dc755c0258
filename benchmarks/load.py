"""Run many connections in one deployment, for hours: ``python -m benchmarks.load --minutes 120``.

Writes a page with a chart, and files with the raw samples. Only the source buckets are synthetic.
The ledger and Dagster's storage are on SQLite, or on the PostgreSQL server of ``--postgresql``.
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
from benchmarks.deployment import Shape, fill, pipeline, source_buckets
from benchmarks.idle_ticks import idle_tick_costs
from benchmarks.resource_samples import Databases, Sampler, SensorTick, ended_ticks, write_rows
from benchmarks.traffic import Traffic
from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.cli.servers.local_servers import label_studio_server, s3_server
from ls_pipeline.cli.servers.server import running
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.resource_samples import Sample

GRACE_SECONDS = 300.0
"""How long the last changes may take to arrive. The measurement ends as soon as they have."""


@dataclass(frozen=True)
class Servers:
    """The URLs of the source buckets and of the target, and Label Studio's process."""

    source_url: str
    target_url: str
    label_studio: int


@contextmanager
def servers(folder: Path, shape: Shape, latency: float) -> Iterator[Servers]:
    """Run the buckets and a Label Studio, and point clients to them by environment variables."""
    target = s3_server(folder / "logs")
    label_studio = label_studio_server(folder / "label-studio", folder / "logs", ENVIRONMENT)
    with source_buckets(shape, latency) as source_url, running([target, label_studio]):
        os.environ.update({**ENVIRONMENT, **label_studio.client_environment})
        process = label_studio._process  # noqa: SLF001
        yield Servers(source_url, target.url, process.pid if process else 0)


@dataclass(frozen=True)
class Observation:
    """How long to observe a deployment, how often to sample it, and the folder for the samples."""

    seconds: float
    sample_every: float
    folder: Path


def observe(
    home: Path,
    traffic: Traffic,
    observation: Observation,
    databases: Databases,
    environment: Mapping[str, str],
) -> tuple[list[Sample], list[SensorTick]]:
    """Run ``ls-pipeline start`` in a filled home, with traffic; return samples and ticks."""
    start = pipeline(home, environment)
    with ExitStack() as stack:
        stack.enter_context(running([start]))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home / "dagster")))
        process = start._process  # noqa: SLF001
        sampler = Sampler(process.pid if process else 0, databases, observation.folder)
        end = time.time() + observation.seconds
        while (now := time.time()) < end or (traffic.pending and now < end + GRACE_SECONDS):
            if now < end:
                traffic.make_due_changes()
            traffic.check_arrivals()
            if now >= sampler.began + len(sampler.samples) * observation.sample_every:
                sampler.take_sample(instance, len(traffic.pending))
                traffic.write(observation.folder / "changes.csv")
            time.sleep(0.5)
        ticks = ended_ticks(instance)
        write_rows(observation.folder / "ticks.csv", map(astuple, ticks))
        return sampler.samples, ticks


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Set up a deployment, observe it, and write the page."""
    shape = Shape(options.connections, options.objects, options.big)
    home = folder / "home"
    os.environ["LS_PIPELINE_HOME"] = str(home)
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    databases = Databases(home, options.postgresql)
    databases.prepare(create_dagster_home())
    with servers(folder, shape, options.latency) as addresses:
        ledger = Ledger(database_url())
        print(f"Filling {shape} …", flush=True)  # noqa: T201
        fill(ledger, shape, addresses.source_url, addresses.target_url)
        print("Observing …", flush=True)  # noqa: T201
        traffic = Traffic(ledger, shape, addresses.source_url, (options.puts, options.labels))
        observation = Observation(options.minutes * 60, options.sample, options.raw)
        samples, ticks = observe(home, traffic, observation, databases, databases.environment)
        costs = idle_tick_costs(ledger, addresses.label_studio)
    load_report.write(options, load_report.Measured(samples, ticks, traffic.changes, costs))


def main() -> None:
    """Measure what the command line describes."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--objects", type=int, default=1000, help="Objects of each connection.")
    parser.add_argument("--big", type=int, default=100_000, help="Objects of the big connection.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--puts", type=float, default=20, help="Mean seconds between two objects.")
    parser.add_argument("--labels", type=float, default=30, help="Mean seconds between two labels.")
    parser.add_argument("--sample", type=float, default=30, help="Seconds between two samples.")
    parser.add_argument("--latency", type=float, default=0.08, help="Of each response, in seconds.")
    parser.add_argument("--postgresql", default="", help="USER:PASSWORD@HOST:PORT of a server.")
    raw = Path(tempfile.gettempdir(), "ls-pipeline-load")
    parser.add_argument("--raw", type=Path, default=raw, help="Folder for the raw samples.")
    parser.add_argument("--output", type=Path, default=Path("docs/load.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
