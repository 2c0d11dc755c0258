"""The whole circle on embedded parts: two buckets fill, tasks appear, labels come back."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ls_pipeline.cli.console import err, print_lines, show_counts, show_progress
from ls_pipeline.cli.context import CliContext, create_dagster_home, end_on_signals
from ls_pipeline.cli.counts import count_connection
from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.gcs_service_account import service_account
from ls_pipeline.cli.servers.local_servers import (
    USERNAME,
    dagster_server,
    gcs_server,
    label_studio_server,
    s3_server,
)
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ls_pipeline.cli.console import ProgressBars
    from ls_pipeline.cli.counts import Counts

TEXTS, PICTURES = 24, 12
PASSWORD = "label-all-day"  # noqa: S105 - of a server on loopback that ends with the demo
POLL_SECONDS = "5"
PATIENCE = 600.0
"""Seconds for a step that takes one minute on two slow cores."""

REVIEWS, SHAPES = "reviews", "shapes"


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers of the demo."""

    home: Path
    s3: Server
    gcs: Server
    label_studio: Server
    dagster: Server

    @property
    def all(self) -> tuple[Server, ...]:
        return self.s3, self.gcs, self.label_studio, self.dagster


AT_ONCE = {"snapshot_minutes": 0}
"""Nobody who looks on waits ten minutes for training data."""


def run_once(look: Callable[[Stage], None] = lambda _stage: None) -> dict[str, dict[str, int]]:
    """Run the circle unattended, look at it, and end it; give the counts of each connection.

    Raises ``PipelineError`` when a step does not come to its end.
    """
    with ExitStack() as servers:
        with show_progress() as shown:
            stage = servers.enter_context(_stage(shown))
            cli = _fill(shown)
            _label_everything(cli, shown)
        counts = {name: asdict(count_connection(name, cli)) for name in cli.ledger.names()}
        look(stage)
    show_counts(counts)
    return counts


def run_until_stopped() -> None:
    """Run the demo until Ctrl-C."""
    with ExitStack() as servers:
        with show_progress() as shown:
            stage = servers.enter_context(_stage(shown))
            cli = _fill(shown)
        show_counts({name: asdict(count_connection(name, cli)) for name in cli.ledger.names()})
        _say_where(stage)
        _say_what_to_try(stage)
        while True:
            time.sleep(3600)


@contextmanager
def _stage(shown: ProgressBars) -> Iterator[Stage]:
    """Start the servers in a home of their own; leave nothing behind."""
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ls-pipeline-demo-") as place:
        home = Path(place)
        with service_account(home / "google.json") as google_account:
            stage = _stage_in(home, google_account)
            with running(stage.all, partial(_tell, shown)):
                yield stage


def _stage_in(home: Path, google_account: Mapping[str, str]) -> Stage:
    logs = home / "logs"
    s3, gcs = s3_server(logs), gcs_server(logs)
    buckets = {**s3.client_environment, **gcs.client_environment}
    labels = label_studio_server(home / "label-studio", logs, buckets, PASSWORD)
    environment = {
        **buckets,
        **labels.client_environment,
        **google_account,
        "LS_PIPELINE_HOME": str(home / "pipeline"),
        "LS_PIPELINE_POLL_SECONDS": POLL_SECONDS,
        "DAGSTER_HOME": str(home / "pipeline" / "dagster"),
    }
    os.environ.pop("LS_PIPELINE_DATABASE_URL", None)
    os.environ.update(environment)
    create_dagster_home()
    _write_environment(home / "env", environment)
    # Dagster leaves sockets in its temporary folder when it is stopped.
    dagster = dagster_server(logs, {**environment, "TMPDIR": str(home)})
    return Stage(home, s3, gcs, labels, dagster)


def _write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """Write what leads a shell to the demo's servers, and to this program."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)


USUALLY = {
    "S3 (moto)": 2,
    "GCS (emulator)": 2,
    "Label Studio": 30,
    "Dagster": 10,
    "tasks": 15,
    "labels": 5,
    "JSON files": 15,
    "Parquet rows": 15,
}
"""Seconds that a step takes on two cores; they go on side by side."""


def _usual(what: str) -> str:
    return f"(usually {USUALLY[what]} s)"


def _tell(shown: ProgressBars, server: Server, state: str) -> None:
    step = f"starting {_usual(server.name)}"
    if not shown.are_visible and state != "stopped":
        err.print(f"{server.name}: {step if state == 'starting' else state}", highlight=False)
    elif state == "starting":
        shown.advance(server.name, step, 0)
    elif state == "ready":
        shown.advance(server.name, step, 1, 1)


def _fill(shown: ProgressBars) -> CliContext:
    """Make buckets and connections, and wait until the sensors have loaded every task."""
    _make_buckets()
    cli = CliContext()
    expected = _put_samples(cli)
    for one in (_reviews(), _shapes()):
        cli.ledger.save(one, "demo")
    for name, count in expected.items():
        _wait_for(name, "tasks", cli, shown, lambda now: now.tasks, count)
    return cli


def _make_buckets() -> None:
    import boto3
    from google.cloud import storage

    s3, gcs = boto3.client("s3"), storage.Client()
    for name in (REVIEWS, f"{REVIEWS}-labels"):
        s3.create_bucket(Bucket=name)
    for name in (SHAPES, f"{SHAPES}-labels"):
        gcs.create_bucket(name)


def _put_samples(cli: CliContext) -> dict[str, int]:
    reviews, shapes = cli.s3.open(REVIEWS), cli.gcs.open(SHAPES)
    for key, body in samples.texts(TEXTS):
        reviews.put(key, body, "application/json")
    for key, body in samples.pictures(PICTURES):
        shapes.put(key, body, "image/png")
    return {REVIEWS: TEXTS, SHAPES: PICTURES}


def _reviews() -> Any:
    return build_connection(
        REVIEWS,
        source={"type": "s3", "path": REVIEWS},
        target={"type": "s3-completions", "path": f"{REVIEWS}-labels", "params": AT_ONCE},
        project="Reviews (S3, JSON)",
        label_config=samples.TEXT_CONFIG,
    )


def _shapes() -> Any:
    return build_connection(
        SHAPES,
        source={"type": "gcs", "path": SHAPES, "params": {"use_blob_urls": True}},
        target={"type": "gcs-completions", "path": f"{SHAPES}-labels", "params": AT_ONCE},
        project="Shapes (GCS, pictures)",
        label_config=samples.PICTURE_CONFIG,
    )


def _wait_for(
    name: str,
    what: str,
    cli: CliContext,
    shown: ProgressBars,
    count: Callable[[Counts], int],
    wanted: int,
) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        now = count(count_connection(name, cli))
        shown.advance(name, f"{what} {_usual(what)}", now, wanted)
        if now >= wanted:
            return
        if time.monotonic() > deadline:
            raise PipelineError(f"{name}: {now} of {wanted} {what} after {PATIENCE:.0f} s.")
        time.sleep(1)


def _label_everything(cli: CliContext, shown: ProgressBars) -> None:
    """Annotate every task through Label Studio's API, and wait for the completions."""
    for name in cli.ledger.names():
        count = _label_project(name, cli, shown)
        for what, read in _EXPORTED.items():
            _wait_for(name, what, cli, shown, read, count)


_EXPORTED: Mapping[str, Callable[[Counts], int]] = {
    "JSON files": lambda now: now.json_files,
    "Parquet rows": lambda now: now.parquet_rows,
}


def _label_project(name: str, cli: CliContext, shown: ProgressBars) -> int:
    from label_studio_sdk.client import LabelStudio  # slow

    client = LabelStudio(  # type: ignore[no-untyped-call]
        base_url=os.environ["LABEL_STUDIO_URL"], api_key=os.environ["LABEL_STUDIO_API_KEY"]
    )
    project_id = cli.ledger.account(name).projects()[1]
    tasks: list[Any] = list(client.tasks.list(project=project_id, resolve_uri=False))
    for done, task in enumerate(tasks, 1):
        client.annotations.create(id=task.id, result=samples.label(task.data), lead_time=4.2)
        shown.advance(name, f"labels {_usual('labels')}", done, len(tasks))
    return len(tasks)


def _say_where(stage: Stage) -> None:
    login = f"(login {USERNAME}, password {PASSWORD})"
    print_lines(
        f"Dagster        {stage.dagster.url}/asset-groups",
        f"Label Studio   {stage.label_studio.url}  {login}",
        f"Training data  {stage.dagster.url}/assets/training_data",
    )


_SIGNED = "--user demo:demo --aws-sigv4 aws:amz:us-east-1:s3 -H 'Content-Type: application/json'"


def _say_what_to_try(stage: Stage) -> None:
    task = '{"text": "The kettle sings."}'
    picture = stage.home / "mine.png"
    picture.write_bytes(samples.pictures(PICTURES + 1)[-1][1])
    shape = f"{stage.gcs.url}/upload/storage/v1/b/{SHAPES}/o?uploadType=media&name=shapes/mine.png"
    print_lines(
        "",
        "Label a task: open a project in Label Studio, click a row, answer, Submit. Its completion",
        "is in the target bucket within seconds, and Dagster's asset completions says so:",
        f"  curl {_SIGNED} {stage.s3.url}/{REVIEWS}-labels",
        "Drop an object into a bucket, and see it appear as a task within seconds:",
        f"  curl {_SIGNED} -X PUT {stage.s3.url}/{REVIEWS}/mine.json -d '{task}'",
        f"  curl -X POST --data-binary @{picture} '{shape}'",
        "Lead another terminal here, and look around:",
        f"  . {stage.home / 'env'}; ls-pipeline status",
        "",
        "Ctrl-C stops everything.",
    )
