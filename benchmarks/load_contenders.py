"""Contenders that load a bucket into a real Label Studio, and those that do a part of it.

Each function sets up its work and returns a function that does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.fixtures import (
    BUCKET,
    Result,
    count_tasks,
    import_tasks,
    label_studio_client,
    new_connection,
    new_ledger_url,
    new_project,
    open_bucket,
)
from benchmarks.synthetic_s3 import NumberedKeys, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import ConnectionLedger

ANY_CREDENTIALS = {"Authorization": "AWS made-up:unchecked"}
"""moto refuses requests without credentials, and accepts any."""

THREADS = 8


def our_load(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Load all objects into an empty project; with ``again``, measure the run after that.

    Ten objects are loaded first, as another connection of the same ledger: so everything is
    imported and connected when the measurement begins, as for all but the first of a `sync`.
    """
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.ledger.ledger import Ledger

    ledger, app = Ledger(new_ledger_url()), LabelStudio()
    params = {"use_blob_urls": bool(blobs), "endpoint_url": url}
    few = params | {"prefix": "objects/", "regex": "objects/00000000.*"}
    source = {"type": "s3", "path": BUCKET, "params": few}
    load_run(new_connection(source, ledger=ledger), url, app)()
    source = {"type": "s3", "path": BUCKET, "params": params | {"prefix": "objects"}}
    work = load_run(new_connection(source, ledger=ledger), url, app)
    if again:
        work()
    return work


def load_run(
    connection_ledger: ConnectionLedger, url: str, app: LabelingApp | None = None
) -> Callable[[], Result]:
    """Prepare a run that loads a connection's source, by default into the real Label Studio."""
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.load import load_tasks
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.progress import SilentProgress

    revision = connection_ledger.settings.in_force()
    app, bucket = app or LabelStudio(), open_bucket(url)

    def work() -> Result:
        with connection_ledger.acquire() as held:
            loaded = load_tasks(RunContext(held, revision, bucket, app, SilentProgress()))
        project = app.project(connection_ledger.projects.ids()[1])
        return {"created": loaded.tasks_created, "tasks": project.tasks}

    return work


def label_studio_source_sync(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Let Label Studio sync its own S3 source storage; with ``again``, measure the second sync."""
    del url  # it is in Label Studio's environment: its API refuses loopback addresses
    client = label_studio_client()
    project = new_project(client)
    storage = new_source_storage(client, project, "objects/", blobs=bool(blobs))

    def work() -> Result:
        before = count_tasks(client, project)
        sync = client.post(f"/api/storages/s3/{storage}/sync").raise_for_status()
        if sync.json()["status"] != "completed":
            raise ValueError(sync.text)
        tasks = count_tasks(client, project)
        return {"created": tasks - before, "tasks": tasks}

    if again:
        work()
    return work


def new_source_storage(
    client: httpx.Client, project: int, prefix: str, *, blobs: bool = False
) -> int:
    """Create a source storage of Label Studio's own; return its id."""
    body = {
        "project": project,
        "bucket": BUCKET,
        "prefix": prefix,
        "regex_filter": ".*",
        "use_blob_urls": blobs,
        "recursive_scan": True,
        "aws_access_key_id": "made-up",
        "aws_secret_access_key": "made-up",
        "region_name": "us-east-1",
    }
    return int(client.post("/api/storages/s3/", json=body).raise_for_status().json()["id"])


def import_only(url: str, objects: int) -> Callable[[], Result]:
    """Import the tasks from memory: a part of every load."""
    del url
    client = label_studio_client()
    project = new_project(client)
    tasks = [{"data": {"text": key}} for key in NumberedKeys(objects)[:]]

    def work() -> Result:
        import_tasks(client, project, tasks)
        return {"created": objects, "tasks": count_tasks(client, project)}

    return work


def list_and_import(url: str, objects: int) -> Callable[[], Result]:
    """List a bucket, then import a task for each object: a part of every load of blobs.

    It keeps no record: a second run would duplicate all tasks.
    """
    client, bucket = label_studio_client(), open_bucket(url)
    project = new_project(client)

    def work() -> Result:
        keys = [stored.key for page in bucket.pages("objects/") for stored in page]
        import_tasks(client, project, [{"data": {"text": bucket.uri(key)}} for key in keys])
        return {"created": objects, "tasks": count_tasks(client, project)}

    return work


def read_only(url: str, objects: int) -> Callable[[], Result]:
    """Read the objects, eight at a time, and parse nothing: a part of every load of JSON."""
    from concurrent.futures import ThreadPoolExecutor

    import urllib3

    client = urllib3.PoolManager(maxsize=THREADS)

    def read(key: str) -> bool:
        address = f"{url}/{BUCKET}/{key}"
        return client.request("GET", address, headers=ANY_CREDENTIALS).data.startswith(b"{")

    def work() -> Result:
        with ThreadPoolExecutor(THREADS) as readers:
            return {"objects": sum(readers.map(read, NumberedKeys(objects)[:]))}

    return work


def fill_s3_bucket(url: str, objects: int) -> Callable[[], Result]:
    """Fill a bucket with the objects of `synthetic_s3`. This is setup, not a contender."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    def work() -> Result:
        store, bucket = Store(NumberedKeys(objects)), open_bucket(url)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)

        def put(key: str) -> None:
            bucket.put(key, store.body(key) or b"", "application/json")

        with ThreadPoolExecutor(THREADS) as writers:
            list(writers.map(put, store.keys[:]))
        return {"objects": sum(len(page) for page in bucket.pages())}

    return work
