"""Contenders at loading a made-up bucket into a real Label Studio."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.synthetic_s3 import Numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account

BUCKET = "bench"
BATCH = 1000
CONFIG = """
<View>
  <Text name="text" value="$text"/>
  <Choices name="topic" toName="text"><Choice value="any"/><Choice value="other"/></Choices>
</View>
"""

Result = dict[str, Any]


def label(choice: str) -> dict[str, Any]:
    """Give a result of an annotation, as `CONFIG` has them."""
    value = {"choices": [choice]}
    return {"from_name": "topic", "to_name": "text", "type": "choices", "value": value}


SOMEBODY = {"Authorization": "AWS made-up:unchecked"}
"""moto gives nothing to nobody, and everything to anybody."""


def our_pass(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Make a pass of ours over an empty project; with ``again`` the one after it.

    Another, over ten objects, comes before: it imports what is only imported when it is needed.
    """
    params = {"use_blob_urls": bool(blobs), "endpoint_url": url}
    few = params | {"prefix": "objects/", "regex": "objects/00000000.*"}
    pass_over(new_account({"type": "s3", "path": BUCKET, "params": few}), url)()
    whole = params | {"prefix": "objects"}
    work = pass_over(new_account({"type": "s3", "path": BUCKET, "params": whole}), url)
    if again:
        work()
    return work


def pass_over(account: Account, url: str) -> Callable[[], Result]:
    """Prepare a pass of a connection's source."""
    from ls_pipeline.engine.load import load
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.progress import SilentProgress

    settings, app, bucket = account.revision().connection, LabelStudio(), bucket_at(url)

    def work() -> Result:
        with account.lease() as lease:
            done = load(account, lease, settings, bucket, app, SilentProgress())
        return {"made": done.tasks_created, "tasks": app.project(account.projects()[1]).tasks}

    return work


def new_account(
    source: Mapping[str, Any] | None, target: Mapping[str, Any] | None = None, ledger: str = ""
) -> Account:
    """Store a new connection, in a ledger of its own unless the URL of one is given."""
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.validation import build_connection

    opened = Ledger(ledger or f"sqlite:///{tempfile.mkdtemp()}/ledger.db")
    name = f"ours-{uuid4().hex[:8]}"
    settings = build_connection(
        name, source=source, target=target, project=name, label_config=CONFIG
    )
    opened.save(settings, "benchmarks")
    return opened.account(name)


def label_studio_sync(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Let Label Studio sync its own S3 source storage; with ``again`` a second time."""
    del url  # Label Studio has it in its environment: it refuses addresses on loopback otherwise
    client = client_of_label_studio()
    project = new_project(client)
    storage = client.post(
        "/api/storages/s3/",
        json={
            "project": project,
            "bucket": BUCKET,
            "prefix": "objects/",
            "regex_filter": ".*",
            "use_blob_urls": bool(blobs),
            "recursive_scan": True,
            "aws_access_key_id": "made-up",
            "aws_secret_access_key": "made-up",
            "region_name": "us-east-1",
        },
    )
    storage.raise_for_status()

    def work() -> Result:
        before = _tasks(client, project)
        done = client.post(f"/api/storages/s3/{storage.json()['id']}/sync").raise_for_status()
        if done.json()["status"] != "completed":
            raise ValueError(done.text)
        tasks = _tasks(client, project)
        return {"made": tasks - before, "tasks": tasks}

    if again:
        work()
    return work


def import_alone(url: str, objects: int) -> Callable[[], Result]:
    """Import as many tasks from memory: what no way to load them can do without."""
    del url
    client = client_of_label_studio()
    project = new_project(client)
    tasks = [{"data": {"text": key}} for key in Numbered(objects)[:]]

    def work() -> Result:
        import_tasks(client, project, tasks)
        return {"made": objects, "tasks": _tasks(client, project)}

    return work


def list_and_import(url: str, objects: int) -> Callable[[], Result]:
    """List a bucket, then import a task for each object: what no way to load blobs can do without.

    It remembers nothing, and doubles all of them when it is run again.
    """
    client, bucket = client_of_label_studio(), bucket_at(url)
    project = new_project(client)

    def work() -> Result:
        keys = [one.key for page in bucket.pages("objects/") for one in page]
        import_tasks(client, project, [{"data": {"text": bucket.uri(key)}} for key in keys])
        return {"made": objects, "tasks": _tasks(client, project)}

    return work


def reading_alone(url: str, objects: int) -> Callable[[], Result]:
    """Read the same objects, eight at a time, and understand nothing."""
    from concurrent.futures import ThreadPoolExecutor

    import urllib3

    lanes = 8
    client = urllib3.PoolManager(maxsize=lanes)

    def read(key: str) -> bool:
        address = f"{url}/{BUCKET}/{key}"
        return client.request("GET", address, headers=SOMEBODY).data.startswith(b"{")

    def work() -> Result:
        with ThreadPoolExecutor(lanes) as readers:
            return {"objects": sum(readers.map(read, Numbered(objects)[:]))}

    return work


def filled_bucket(url: str, objects: int) -> Callable[[], Result]:
    """Fill a bucket with what a list server makes up. No contender."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    from benchmarks.synthetic_s3 import Store

    def work() -> Result:
        store, bucket = Store(Numbered(objects)), bucket_at(url)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)

        def put(key: str) -> None:
            bucket.put(key, store.body(key) or b"", "application/json")

        with ThreadPoolExecutor(8) as writers:
            list(writers.map(put, store.keys[:]))
        return {"objects": sum(len(page) for page in bucket.pages())}

    return work


def bucket_at(url: str) -> Bucket:
    """Open the bucket that all of this is about."""
    from ls_pipeline.resources.s3.bucket import S3Buckets

    return S3Buckets(endpoint_url=url).open(BUCKET)


def import_tasks(client: httpx.Client, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Import tasks over plain HTTP, batch by batch."""
    for begin in range(0, len(tasks), BATCH):
        batch = tasks[begin : begin + BATCH]
        client.post(f"/api/projects/{project}/import", json=batch).raise_for_status()


def client_of_label_studio() -> httpx.Client:
    """Give a client of the Label Studio that the environment names."""
    import httpx

    token = f"Token {os.environ['LABEL_STUDIO_API_KEY']}"
    # Kept-alive connections wait 40 ms for each of its answers, which nobody shall pay here.
    headers = {"Authorization": token, "Connection": "close"}
    return httpx.Client(
        base_url=os.environ["LABEL_STUDIO_URL"], headers=headers, timeout=3600, trust_env=False
    )


def new_project(client: httpx.Client, title: str = "") -> int:
    """Make an empty project."""
    body = {"title": title or uuid4().hex, "label_config": CONFIG}
    made = client.post("/api/projects/", json=body).raise_for_status()
    return int(made.json()["id"])


def _tasks(client: httpx.Client, project: int) -> int:
    return int(client.get(f"/api/projects/{project}/").raise_for_status().json()["task_number"])
