"""`ls-pipeline start` with each kind of source and target, and what it keeps in its home."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import requests

from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.ports import WEBHOOKS_HOST, choose_port, is_address
from ls_pipeline.cli.servers.webhook_receiver import answers_at
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.s3.bucket import S3Buckets
from tests.e2e.conftest import PROGRAM, keys

pytestmark = pytest.mark.server

BUCKET = "my-bucket-name"
S3 = f"ls-pipeline start --init --source s3 --source-path {BUCKET}"
GCS = f"ls-pipeline start --init --source gcs --source-path {BUCKET}"
BLOBS = r""" --source-params "{\"data_key\": \"my-data-key\", \"use_blob_urls\": true}" """
TO_S3 = f"ls-pipeline start --init --target s3-completions --target-path {BUCKET}"
TO_GCS = f"ls-pipeline start --init --target gcs-completions --target-path {BUCKET}"
"""The commands that the project was asked to support, with its own program name."""

PATIENCE = 300.0
"""Seconds to wait for what takes a few on an idle machine; a Label Studio may start, too."""
TYPED_BY_HAND = {"text": "The keyboard made my day."}


def run(command):
    words = [PROGRAM, *shlex.split(command)[1:]]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(live_environment, tmp_path):
    """Return a working folder without a home, whose path is too long for a socket."""
    deep = tmp_path / "projects" / "of a group with a long name" / "labels for a good cause"
    deep.mkdir(parents=True)
    live_environment.chdir(deep)
    live_environment.delenv("LS_PIPELINE_HOME")
    live_environment.setenv("LS_PIPELINE_POLL_SECONDS", "2")
    return deep


@contextmanager
def started(command, folder, program=PROGRAM):
    """Run a command while the block runs, then end it as Ctrl-C does; yield its log."""
    _, *words = shlex.split(command)
    log = folder / "start.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [program, *words], stdout=file, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        wait_for(lambda: "Ctrl-C stops" in log.read_text() or process.poll() is not None)
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0, log.read_text()


def wait_for(condition):
    """Call a function until its result is true; return the result."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s"
        time.sleep(0.5)
    return result


@pytest.fixture
def buckets(folder):
    """Return the commands' bucket on both clouds, empty."""
    import boto3
    from google.cloud import storage

    boto3.client("s3").create_bucket(Bucket=BUCKET)
    if not storage.Client().lookup_bucket(BUCKET):
        storage.Client().create_bucket(BUCKET)
    buckets = {"s3": S3Buckets().open(BUCKET), "gs": GCSBuckets().open(BUCKET)}
    for bucket in buckets.values():
        for key in keys(bucket):
            bucket.delete(key)
    return buckets


@pytest.fixture
def project(folder):
    """Return a function that returns the project's id; delete the project after the test."""
    app = LabelStudio()

    def project_ids():
        answer = app.api.json("GET", "api/projects/", params={"title": BUCKET})
        return [project["id"] for project in answer["results"]]

    yield lambda: project_ids()[0]
    for project_id in project_ids():
        app.api.json("DELETE", f"api/projects/{project_id}/")


def loaded(project):
    """Return the data of all tasks."""
    app = LabelStudio()
    ids = [task.id for task in app.task_states(project())]
    return [task.document["data"] for task in app.completions(project(), ids)]


@pytest.mark.parametrize(("command", "cloud"), [(S3, "s3"), (GCS, "gs")])
def test_start_loads_json_tasks_from_a_bucket(folder, buckets, project, command, cloud):
    for key, body in samples.texts(3):
        buckets[cloud].put(key, body, "application/json")
    with started(command, folder) as log:
        wait_for(lambda: "3 loaded as tasks" in log.read_text())
        buckets[cloud].put("later.json", b'{"text": "uploaded later"}', "application/json")
        wait_for(lambda: "4 loaded as tasks" in log.read_text())

    assert {"text": "uploaded later"} in loaded(project)


@pytest.mark.parametrize(
    ("command", "cloud"), [(S3 + BLOBS, "s3"), (GCS + BLOBS, "gs")], ids=["s3", "gcs"]
)
def test_start_loads_blobs_from_a_bucket(folder, buckets, project, command, cloud):
    buckets[cloud].put("my-blob.ext", b"blob", "application/octet-stream")
    with started(command, folder) as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())

    assert loaded(project) == [{"my-data-key": f"{cloud}://{BUCKET}/my-blob.ext"}]


@pytest.mark.parametrize(("command", "cloud"), [(TO_S3, "s3"), (TO_GCS, "gs")])
def test_start_writes_completions_to_a_bucket(folder, buckets, project, command, cloud):
    app = LabelStudio()
    created = app.create_project(BUCKET, samples.TEXT_CONFIG)
    (task_id,) = app.import_tasks(created.id, [{"data": TYPED_BY_HAND}])
    result = samples.label(TYPED_BY_HAND)
    app.api.json("POST", f"api/tasks/{task_id}/annotations/", json={"result": result})
    with started(command, folder) as log:
        wait_for(lambda: "1 written as completions" in log.read_text())
    document = json.loads(buckets[cloud].get(f"{task_id}.json"))

    assert document["data"] == TYPED_BY_HAND
    assert document["annotations"][0]["result"][0]["value"] == result[0]["value"]


def answers(dagster):
    """Return whether Dagster's webserver answers a query; it may start after the first load."""
    query = {"query": "{ instance { daemonHealth { id allDaemonStatuses { healthy } } } }"}
    try:
        return requests.post(f"{dagster}/graphql", json=query, timeout=10).ok
    except requests.ConnectionError:
        return False


KILLED = """
import os, sys
import dagster as dg
from ls_pipeline.resources.ledger.ledger import Ledger

ledger, instance = Ledger(sys.argv[1]), dg.DagsterInstance.get()
beating = []
for n in range(10):
    run = dg.DagsterRun("load_tasks", f"killed-{n}", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    beating.append(ledger.heartbeats.of(run.run_id, 60))
    beating[-1].__enter__()
os._exit(1)
"""
"""A process that is killed with as many runs at work as Dagster allows at once."""


def leave_killed_runs(home, environment):
    environment.setenv("DAGSTER_HOME", str(home / "dagster"))
    words = [sys.executable, "-c", KILLED, f"sqlite:///{home}/ledger.db"]
    assert subprocess.run(words, check=False).returncode == 1
    environment.delenv("DAGSTER_HOME")


def test_home_is_reused_and_init_does_not_overwrite_it(folder, buckets, project, live_environment):
    buckets["s3"].put("a.json", b'{"text": "a"}', "application/json")
    with started(S3, folder) as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())
        second = run("ls-pipeline start")
        dagster = re.search(r"http://127.0.0.1:\d+", log.read_text()).group()
        wait_for(lambda: answers(dagster))
    overwriting = run(S3)
    buckets["s3"].put("b.json", b'{"text": "b"}', "application/json")
    leave_killed_runs(folder / ".ls_pipeline", live_environment)
    with started("ls-pipeline start", folder) as log:
        wait_for(lambda: "2 loaded as tasks" in log.read_text())

    assert (second.returncode, overwriting.returncode) == (1, 1)
    assert "another `ls-pipeline start` runs in it" in second.stderr
    assert (
        f"it already has connections ({BUCKET}). Leave out --init to continue" in overwriting.stderr
    )
    assert len(loaded(project)) == 2


def test_force_backs_up_the_old_state(folder, buckets, project):
    buckets["s3"].put("a.json", b'{"text": "a"}', "application/json")
    run("ls-pipeline connections add old --source s3 --source-path old-bucket")
    with started(S3 + " --force", folder) as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())
    listed = json.loads(run("ls-pipeline connections list --json").stdout)

    assert list(listed["connections"]) == [BUCKET]
    assert len(list((folder / ".ls_pipeline").glob("before-*/ledger.db"))) == 1


def test_start_loads_connections_from_a_file(folder, buckets, project):
    buckets["gs"].put("a.json", b'{"text": "a"}', "application/json")
    (folder / "connections.yaml").write_text(
        f"connections:\n  {BUCKET}:\n    source: {{type: gcs, path: {BUCKET}}}\n"
    )
    with started("ls-pipeline start --connections connections.yaml", folder) as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())

    assert loaded(project) == [{"text": "a"}]


@pytest.fixture
def queue(buckets):
    """Return the URL of a queue that the bucket on S3 notifies."""
    import boto3

    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName=BUCKET)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    configuration = {"QueueArn": attributes["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )
    yield url
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={}
    )


@contextmanager
def webhooks(live_environment):
    """Run the webhook receiver at an address that Label Studio may call; yield its URL."""
    port = choose_port(None, 3001, WEBHOOKS_HOST)
    url = f"http://{WEBHOOKS_HOST}:{port}"
    words = [PROGRAM, "webhooks", "--host", WEBHOOKS_HOST, "--port", str(port)]
    with subprocess.Popen(words) as process:
        try:
            wait_for(lambda: not can_listen(port) or process.poll() is not None)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def can_listen(port):
    return choose_port(None, port, WEBHOOKS_HOST) == port


def test_changes_and_labels_arrive_without_polling(
    folder, buckets, project, queue, live_environment
):
    bucket, app = buckets["s3"], LabelStudio()
    live_environment.setenv("LS_PIPELINE_POLL_SECONDS", "3600")
    (folder / "config.xml").write_text(samples.TEXT_CONFIG)
    source = json.dumps({"prefix": "in", "notifications": queue})
    words = f"--source-params '{source}' --label-config config.xml --target s3-completions"
    words += f""" --target-path {BUCKET} --target-params '{{"prefix": "out"}}'"""
    bucket.put("in/first.json", b'{"text": "at the start"}', "application/json")
    with webhooks(live_environment) as url:
        live_environment.setenv("LS_PIPELINE_WEBHOOK_URL", url)
        with started(f"{S3} {words}", folder) as log:
            wait_for(lambda: "1 loaded as tasks" in log.read_text())
            bucket.put("in/later.json", json.dumps(TYPED_BY_HAND).encode(), "application/json")
            wait_for(lambda: "2 loaded as tasks" in log.read_text())
            task_id = max(task.id for task in app.task_states(project()))
            result = samples.label(TYPED_BY_HAND)
            app.api.json("POST", f"api/tasks/{task_id}/annotations/", json={"result": result})
            wait_for(lambda: "1 written as completions" in log.read_text())

    assert json.loads(bucket.get(f"out/{task_id}.json"))["data"] == TYPED_BY_HAND


def test_start_fails_early_if_label_studio_is_down(folder, live_environment):
    live_environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    result = run(S3)

    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert "Traceback" not in result.stderr


def test_start_runs_its_own_label_studio_without_an_address(folder, buckets, live_environment):
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        live_environment.delenv(name)
    buckets["s3"].put("a.json", b'{"text": "a"}', "application/json")
    with started(S3, folder) as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())
        # Another terminal in the same folder finds it by itself.
        synced = run("ls-pipeline sync --json")
        addresses = json.loads((folder / ".ls_pipeline" / "label-studio.json").read_text())
        receiver_answers = answers_at(addresses["webhooks"])

    assert json.loads(synced.stdout)["connections"][BUCKET]["tasks"] == 1
    assert receiver_answers is is_address(WEBHOOKS_HOST)
    assert not (folder / ".ls_pipeline" / "label-studio.json").exists()
