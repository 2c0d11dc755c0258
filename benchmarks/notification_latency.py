"""An object's way into Label Studio, and its label's to a file, by notifications alone."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.load_contenders import BUCKET, CONFIG, bucket_at, label
from benchmarks.polling_latency import PATIENCE, run_before, table, wait_for_tasks
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
    "an object: until a sensor has looked and asked for a run",
    "until the task is in Label Studio",
    "a label: until a sensor has looked and asked for a run",
    "until its file is in the target",
)


def notified(url: str, puts: int, folder: Path) -> Section:
    """Put objects and label them, at any moment, while the polls are an hour apart.

    ``url`` is the server of the buckets and of the queue; the environment names a Label Studio.
    """
    os.environ["LS_PIPELINE_HOME"] = str(folder / "notified")
    os.environ["LS_PIPELINE_POLL_SECONDS"] = "3600"
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["DAGSTER_HOME"] = str(create_dagster_home())
    cli, name = CliContext(), uuid4().hex
    _connect(cli, name, url)
    port = choose_port(None, 3001, WEBHOOKS_HOST)
    print(f"{puts} objects and their labels, by notifications alone", flush=True)  # noqa: T201
    with serving(cli.ledger, webhook_secret(), WEBHOOKS_HOST, port) as receiver:
        os.environ["LS_PIPELINE_WEBHOOK_URL"] = receiver
        with running([dagster_server(folder / "logs", dict(os.environ))]):
            ways = _ways(cli, bucket_at(url), name, puts)
    about = (
        f"{puts} objects, each put at any moment and labeled at another, with Dagster's daemon "
        "running and its polls an hour apart: what is seen, S3's notifications and Label Studio's "
        "webhooks have told of. Median and 95th percentile."
    )
    return Section("By notifications", f"{about}\n\n{table(STEPS, ways)}")


def _connect(cli: CliContext, name: str, url: str) -> None:
    """Make a connection whose bucket tells a queue, which is made, too."""
    import boto3  # half a second

    sqs = boto3.client("sqs", endpoint_url=url)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    configuration = {"QueueArn": told["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    boto3.client("s3", endpoint_url=url).put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )
    source = {"type": "s3", "path": BUCKET, "params": {"prefix": name, "notifications": queue}}
    target = {"type": "s3-completions", "path": BUCKET, "params": {"prefix": f"{name}-out"}}
    settings = build_connection(
        name, source=source, target=target, project=name, label_config=CONFIG
    )
    cli.ledger.save(settings, "benchmarks")


def _ways(cli: CliContext, bucket: Bucket, name: str, puts: int) -> list[list[float]]:
    bucket.put(f"{name}/first.json", b'{"text": "first"}', "application/json")
    wait_for_tasks(cli, name, 1)
    chance, ways = random.Random(7), []  # noqa: S311
    for number in range(2, puts + 2):
        time.sleep(chance.uniform(5, 10))
        began = time.time()
        bucket.put(f"{name}/{number}.json", b'{"text": "one"}', "application/json")
        loaded = wait_for_tasks(cli, name, number)
        asked = run_before(cli.instance, loaded).create_timestamp.timestamp()
        time.sleep(chance.uniform(5, 10))
        labeled = time.time()
        written = _label(cli, bucket, name)
        again = run_before(cli.instance, written).create_timestamp.timestamp()
        ways.append([asked - began, loaded - asked, again - labeled, written - again])
        print("  " + ", ".join(f"{one:.1f} s" for one in ways[-1]), flush=True)  # noqa: T201
    return ways


def _label(cli: CliContext, bucket: Bucket, name: str) -> float:
    """Label the newest task, and wait for its file; give the time."""
    app = cli.label_studio
    project = app.find_project(name)
    task = app.highest_task_id(project.id if project else 0)
    app.api.json("POST", f"api/tasks/{task}/annotations/", json={"result": [label("any")]})
    deadline, key = time.monotonic() + PATIENCE, completion_key(f"{name}-out", task)
    while time.monotonic() < deadline:
        if next(bucket.pages(key), ()):
            return time.time()
        time.sleep(0.1)
    raise TimeoutError("the label never came to the target")
