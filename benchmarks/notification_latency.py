"""How long an object and its label take when only notifications start runs."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.fixtures import BUCKET, LABEL_CONFIG, annotation_result, open_bucket
from benchmarks.polling_latency import (
    TIMEOUT,
    last_run_before,
    print_durations,
    table,
    wait_for_tasks,
)
from benchmarks.report import Section
from ls_pipeline.cli.context import CliContext, create_dagster_home
from ls_pipeline.cli.servers.local_servers import dagster_server
from ls_pipeline.cli.servers.ports import WEBHOOKS_HOST, choose_port
from ls_pipeline.cli.servers.server import running
from ls_pipeline.cli.servers.webhook_receiver import serving
from ls_pipeline.domain.exports import completion_key
from ls_pipeline.resources.environment import webhook_secret
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from pathlib import Path

    from ls_pipeline.resources.bucket import Bucket

STEPS = (
    "object: until a sensor requests a run",
    "object: until the task is in Label Studio",
    "label: until a sensor requests a run",
    "label: until its file is in the target",
)


def notification_latency(url: str, puts: int, folder: Path) -> Section:
    """Put objects and label them at random moments, while polling is reduced to once an hour.

    ``url`` is the server of the buckets and of the queue. The environment names a Label Studio.
    """
    os.environ["LS_PIPELINE_HOME"] = str(folder / "notified")
    os.environ["LS_PIPELINE_POLL_SECONDS"] = "3600"
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["DAGSTER_HOME"] = str(create_dagster_home())
    cli, name = CliContext(), uuid4().hex
    _connect(cli, name, url)
    port = choose_port(None, 3001, WEBHOOKS_HOST)
    print(f"{puts} objects and their labels, by notifications only", flush=True)  # noqa: T201
    with serving(cli.ledger, webhook_secret(), WEBHOOKS_HOST, port) as receiver:
        os.environ["LS_PIPELINE_WEBHOOK_URL"] = receiver
        with running([dagster_server(folder / "logs", dict(os.environ))]):
            durations = _durations(cli, open_bucket(url), name, puts)
    about = (
        f"{puts} objects, each put at a random moment and labeled at another. Dagster's daemon "
        "runs, and polling is reduced to once an hour, so only S3's notifications and Label "
        "Studio's webhooks start runs. Each second row begins where the row above ends."
    )
    return Section("By notifications", f"{about}\n\n{table(STEPS, durations)}")


def _connect(cli: CliContext, name: str, url: str) -> None:
    """Create a queue, a bucket notification that feeds it, and a connection that reads it."""
    import boto3

    sqs = boto3.client("sqs", endpoint_url=url)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    configuration = {"QueueArn": attributes["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    boto3.client("s3", endpoint_url=url).put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )
    source = {"type": "s3", "path": BUCKET, "params": {"prefix": name, "notifications": queue}}
    target = {"type": "s3-completions", "path": BUCKET, "params": {"prefix": f"{name}-out"}}
    settings = build_connection(
        name, source=source, target=target, project=name, label_config=LABEL_CONFIG
    )
    cli.ledger.save(settings, "benchmarks")


def _durations(cli: CliContext, bucket: Bucket, name: str, puts: int) -> list[list[float]]:
    bucket.put(f"{name}/first.json", b'{"text": "first"}', "application/json")
    wait_for_tasks(cli, name, 1)
    chance, durations = random.Random(7), []  # noqa: S311
    for number in range(2, puts + 2):
        time.sleep(chance.uniform(5, 10))
        put = time.time()
        bucket.put(f"{name}/{number}.json", b'{"text": "one"}', "application/json")
        loaded = wait_for_tasks(cli, name, number)
        load = last_run_before(cli.instance, loaded).create_timestamp.timestamp()
        time.sleep(chance.uniform(5, 10))
        labeled = time.time()
        exported = _label_newest_task(cli, bucket, name)
        export = last_run_before(cli.instance, exported).create_timestamp.timestamp()
        durations.append([load - put, loaded - load, export - labeled, exported - export])
        print_durations(durations[-1])
    return durations


def _label_newest_task(cli: CliContext, bucket: Bucket, name: str) -> float:
    """Label the newest task and wait for its file; return the time."""
    app = cli.label_studio
    project = app.find_project(name)
    task = app.highest_task_id(project.id if project else 0)
    body = {"result": [annotation_result("any")]}
    app.api.json("POST", f"api/tasks/{task}/annotations/", json=body)
    deadline, key = time.monotonic() + TIMEOUT, completion_key(f"{name}-out", task)
    while time.monotonic() < deadline:
        if next(bucket.pages(key), ()):
            return time.time()
        time.sleep(0.1)
    raise TimeoutError("the label did not reach the target")
