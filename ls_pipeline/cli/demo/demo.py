"""``ls-pipeline demo``: runs the pipeline on temporary servers with sample data."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.console import err, print_json, print_lines, show_counts, show_progress
from ls_pipeline.cli.context import CliContext, create_dagster_home, end_on_signals
from ls_pipeline.cli.counts import count_connection
from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.options import verbatim
from ls_pipeline.cli.servers import local_servers
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.private_files import write_private_file
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ls_pipeline.cli.console import ProgressBars
    from ls_pipeline.settings.model import Connection

TEXTS, PICTURES, ROWS = 24, 12, 6
REVIEWS, SHAPES, SURVEY = "reviews", "shapes", "survey"
"""Names of the connections and of their buckets."""

PASSWORD = "label-all-day"  # noqa: S105 - of a server on loopback that ends with the demo
POLL_SECONDS = "5"
STEP_SECONDS = 600.0
"""The timeout of a step that takes one minute on two slow cores."""

USUAL_SECONDS = {
    "S3 (moto)": 2,
    "GCS (emulator)": 2,
    "Label Studio": 30,
    "Dagster": 10,
    "tasks": 15,
    "labels": 5,
    "JSON files": 15,
    "Parquet rows": 15,
}
"""Seconds that a step takes on two cores. Servers start at the same time."""


EPILOG = verbatim("""
Examples:
  ls-pipeline demo                explore it until Ctrl-C
  ls-pipeline demo --once --json  label everything by script, count, and exit
""")


@click.command(epilog=EPILOG, short_help="Try everything on temporary servers.")
@click.option("--once", is_flag=True, help="Label everything by script, count, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: also print the counts as JSON.")
def demo(once: bool, as_json: bool) -> None:  # noqa: FBT001 - flags
    """Run the pipeline with sample data on temporary servers.

    It starts an S3 server, a GCS server, Label Studio and Dagster. They listen on loopback only.
    Everything is in a temporary folder, which is deleted at the end.
    """
    if as_json and not once:
        raise click.UsageError("--json needs --once.")
    try:
        if not once:
            run_until_stopped()
        elif as_json:
            print_json({"connections": run_once()})
        else:
            run_once()
    except KeyboardInterrupt:
        err.print("Everything is stopped.")


@dataclass(frozen=True, slots=True)
class DemoServers:
    """The servers of the demo, and the folder that they work in."""

    home: Path
    s3: Server
    gcs: Server
    label_studio: Server
    dagster: Server

    @property
    def all(self) -> tuple[Server, ...]:
        return self.s3, self.gcs, self.label_studio, self.dagster


def run_once(
    inspect: Callable[[DemoServers], None] = lambda _servers: None,
) -> dict[str, dict[str, int]]:
    """Run the demo unattended, and return the counts of each connection.

    ``inspect`` is called before the servers stop. Raises ``PipelineError`` if a step fails or
    takes too long.
    """
    with _running_demo(label=True) as (servers, counts):
        inspect(servers)
    show_counts(counts)
    return counts


def run_until_stopped() -> None:
    """Run the demo until Ctrl-C."""
    with _running_demo(label=False) as (servers, counts):
        show_counts(counts)
        _print_addresses(servers)
        _print_suggestions(servers)
        while True:
            time.sleep(3600)


@contextmanager
def _running_demo(*, label: bool) -> Iterator[tuple[DemoServers, dict[str, dict[str, int]]]]:
    """Run the demo's servers with samples loaded. Yield them and the counts of each connection."""
    with ExitStack() as stack:
        with show_progress() as progress:
            servers = stack.enter_context(_running_servers(progress))
            demo = Demo(CliContext(), progress)
            demo.load_samples()
            if label:
                demo.label_everything()
        ledger = demo.cli.ledger
        yield servers, {name: asdict(count_connection(name, demo.cli)) for name in ledger.names()}


@contextmanager
def _running_servers(progress: ProgressBars) -> Iterator[DemoServers]:
    """Run the servers in a temporary folder, which is deleted at the end."""
    end_on_signals()
    with TemporaryDirectory(prefix="ls-pipeline-demo-") as folder:
        servers = _servers(Path(folder))
        with running(servers.all, partial(_show_state, progress)):
            yield servers


def _servers(home: Path) -> DemoServers:
    logs = home / "logs"
    s3, gcs = local_servers.s3_server(logs), local_servers.gcs_server(logs)
    buckets = {**s3.client_environment, **gcs.client_environment}
    label_studio = local_servers.label_studio_server(home / "label-studio", logs, buckets, PASSWORD)
    environment = {
        **buckets,
        **label_studio.client_environment,
        **local_servers.write_service_account(home / "google.json", gcs),
        "LS_PIPELINE_HOME": str(home / "pipeline"),
        "LS_PIPELINE_POLL_SECONDS": POLL_SECONDS,
        "DAGSTER_HOME": str(home / "pipeline" / "dagster"),
    }
    os.environ.pop("LS_PIPELINE_DATABASE_URL", None)
    os.environ.update(environment)
    create_dagster_home()
    _write_environment(home / "env", environment)
    # Dagster leaves sockets in its temporary folder when it is stopped.
    dagster = local_servers.dagster_server(logs, {**environment, "TMPDIR": str(home)})
    return DemoServers(home, s3, gcs, label_studio, dagster)


def _write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """Write a shell script that points a terminal at the demo's servers and this program."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    write_private_file(file, "\n".join(lines) + "\n")


def _usually(step: str) -> str:
    return f"(usually {USUAL_SECONDS[step]} s)"


def _show_state(progress: ProgressBars, server: Server, state: str) -> None:
    starting = f"starting {_usually(server.name)}"
    if not progress.are_visible and state != "stopped":
        err.print(f"{server.name}: {starting if state == 'starting' else state}")
    elif state == "starting":
        progress.advance(server.name, starting, 0)
    elif state == "ready":
        progress.advance(server.name, starting, 1, 1)


@dataclass(frozen=True, slots=True)
class Demo:
    """The steps of the demo, on running servers."""

    cli: CliContext
    progress: ProgressBars

    def load_samples(self) -> None:
        """Create buckets and connections, and wait until the sensors have loaded every task."""
        _create_buckets()
        _upload_samples(self.cli)
        for connection in _connections():
            self.cli.ledger.save(connection, "demo")
        for name, expected in {REVIEWS: TEXTS, SHAPES: PICTURES, SURVEY: ROWS}.items():
            self._wait_for("tasks", name, expected)

    def label_everything(self) -> None:
        """Annotate every task with Label Studio's API, and wait for its completion."""
        for name in self.cli.ledger.names():
            expected = self._label_project(name)
            self._wait_for("JSON files", name, expected)
            self._wait_for("Parquet rows", name, expected)

    def _wait_for(self, step: str, name: str, expected: int) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            counts = asdict(count_connection(name, self.cli))
            count = counts[step.lower().replace(" ", "_")]
            self.progress.advance(name, f"{step} {_usually(step)}", count, expected)
            if count >= expected:
                return
            if time.monotonic() > deadline:
                raise PipelineError(
                    f"{name}: {count} of {expected} {step} after {STEP_SECONDS:.0f} s."
                )
            time.sleep(1)

    def _label_project(self, name: str) -> int:
        api = self.cli.label_studio.api
        project_id = self.cli.ledger.connection_ledger(name).projects.ids()[1]
        params = {"project": str(project_id), "page_size": "1000", "resolve_uri": "false"}
        tasks: list[Any] = api.json("GET", "api/tasks/", params=params)["tasks"]
        for count, task in enumerate(tasks, 1):
            annotation = {"result": samples.label(task["data"]), "lead_time": 4.2}
            api.json("POST", f"api/tasks/{task['id']}/annotations/", json=annotation)
            self.progress.advance(name, f"labels {_usually('labels')}", count, len(tasks))
        return len(tasks)


def _create_buckets() -> None:
    import boto3
    from google.cloud import storage

    s3, gcs = boto3.client("s3"), storage.Client()
    for name in (REVIEWS, f"{REVIEWS}-labels", SURVEY, f"{SURVEY}-labels"):
        s3.create_bucket(Bucket=name)
    for name in (SHAPES, f"{SHAPES}-labels"):
        gcs.create_bucket(name)


def _upload_samples(cli: CliContext) -> None:
    reviews, shapes = cli.s3.open(REVIEWS), cli.gcs.open(SHAPES)
    for key, body in samples.texts(TEXTS):
        reviews.put(key, body, "application/json")
    for key, body in samples.pictures(PICTURES):
        shapes.put(key, body, "image/png")
    key, body = samples.table(ROWS)
    cli.s3.open(SURVEY).put(key, body, "text/csv")


def _connections() -> tuple[Connection, ...]:
    reviews = build_connection(
        REVIEWS,
        source={"type": "s3", "path": REVIEWS},
        target=_target("s3-completions", REVIEWS),
        project="Reviews (S3, JSON)",
        label_config=samples.TEXT_CONFIG,
    )
    shapes = build_connection(
        SHAPES,
        source={"type": "gcs", "path": SHAPES, "params": {"use_blob_urls": True}},
        target=_target("gcs-completions", SHAPES),
        project="Shapes (GCS, pictures)",
        label_config=samples.PICTURE_CONFIG,
    )
    survey = build_connection(
        SURVEY,
        source={"type": "s3", "path": SURVEY},
        target=_target("s3-completions", SURVEY),
        project="Survey (S3, CSV)",
        label_config=samples.TEXT_CONFIG,
    )
    return reviews, shapes, survey


def _target(kind: str, name: str) -> dict[str, Any]:
    """Return a target that gets a snapshot at once, without the usual pause."""
    return {"type": kind, "path": f"{name}-labels", "params": {"snapshot_minutes": 0}}


def _print_addresses(servers: DemoServers) -> None:
    login = f"(login {local_servers.USERNAME}, password {PASSWORD})"
    print_lines(
        f"Dagster        {servers.dagster.url}/asset-groups",
        f"Label Studio   {servers.label_studio.url}  {login}",
        f"Training data  {servers.dagster.url}/assets/training_data",
    )


_SIGNED = "--user demo:demo --aws-sigv4 aws:amz:us-east-1:s3 -H 'Content-Type: application/json'"


def _print_suggestions(servers: DemoServers) -> None:
    task = '{"text": "The kettle sings."}'
    picture = servers.home / "mine.png"
    picture.write_bytes(samples.pictures(PICTURES + 1)[-1][1])
    upload = f"{servers.gcs.url}/upload/storage/v1/b/{SHAPES}/o"
    print_lines(
        "",
        "Label a task: open a project in Label Studio, click a row, answer, and submit. Within",
        "seconds its completion is in the target bucket and in Dagster's asset completions:",
        f"  curl {_SIGNED} {servers.s3.url}/{REVIEWS}-labels",
        "Upload an object. Within seconds it becomes a task:",
        f"  curl {_SIGNED} -X PUT {servers.s3.url}/{REVIEWS}/mine.json -d '{task}'",
        f"  curl -X POST --data-binary @{picture} '{upload}?uploadType=media&name=shapes/mine.png'",
        "Use the demo's servers in another terminal:",
        f"  . {servers.home / 'env'}; ls-pipeline status",
        "",
        "Ctrl-C stops everything.",
    )
