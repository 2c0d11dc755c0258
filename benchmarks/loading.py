"""Contenders at loading a made-up bucket into a real Label Studio."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.list_server import Numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

BUCKET = "b"
BATCH = 1000
CONFIG = """
<View>
  <Text name="text" value="$text"/>
  <Choices name="topic" toName="text"><Choice value="any"/></Choices>
</View>
"""

Result = dict[str, Any]


def our_pass(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Make a pass of ours over an empty project; with ``again`` the one after it."""
    from ls_pipeline.assets.loading import load  # noqa: PLC0415
    from ls_pipeline.connections import connection  # noqa: PLC0415
    from ls_pipeline.resources.label_studio import LabelStudio  # noqa: PLC0415
    from ls_pipeline.resources.ledger import Ledger  # noqa: PLC0415
    from ls_pipeline.resources.progress import Silent  # noqa: PLC0415
    from ls_pipeline.resources.s3 import S3Buckets  # noqa: PLC0415

    name = f"ours-{uuid4().hex[:8]}"
    params = {"use_blob_urls": bool(blobs), "endpoint_url": url, "prefix": "objects"}
    source = {"type": "s3", "path": BUCKET, "params": params}
    settings = connection(name, source=source, target=None, project=name, label_config=CONFIG)
    ledger = Ledger(f"sqlite:///{tempfile.mkdtemp()}/ledger.db")
    ledger.save(settings, "benchmarks")
    account, app = ledger.account(name), LabelStudio()
    bucket = S3Buckets().bucket_of(settings.source)  # type: ignore[arg-type]

    def work() -> Result:
        with account.lease() as lease:
            done = load(account, lease, settings, bucket, app, Silent())
        return {"made": done.tasks_created, "tasks": app.project(account.project_id() or 0).tasks}

    if again:
        work()
    return work


def label_studio_sync(url: str, blobs: int, again: int) -> Callable[[], Result]:
    """Let Label Studio sync its own S3 source storage; with ``again`` a second time."""
    del url  # Label Studio has it in its environment: it refuses addresses on loopback otherwise
    client, project = _project()
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
    client, project = _project()
    tasks = [{"data": {"text": key}} for key in Numbered(objects)[:]]

    def work() -> Result:
        for begin in range(0, objects, BATCH):
            batch = tasks[begin : begin + BATCH]
            client.post(f"/api/projects/{project}/import", json=batch).raise_for_status()
        return {"made": objects, "tasks": _tasks(client, project)}

    return work


def _project() -> tuple[httpx.Client, int]:
    import httpx  # noqa: PLC0415

    token = f"Token {os.environ['LABEL_STUDIO_API_KEY']}"
    # Kept-alive connections wait 40 ms for each of its answers, which nobody shall pay here.
    headers = {"Authorization": token, "Connection": "close"}
    client = httpx.Client(
        base_url=os.environ["LABEL_STUDIO_URL"], headers=headers, timeout=3600, trust_env=False
    )
    made = client.post("/api/projects/", json={"title": uuid4().hex, "label_config": CONFIG})
    return client, int(made.raise_for_status().json()["id"])


def _tasks(client: httpx.Client, project: int) -> int:
    return int(client.get(f"/api/projects/{project}/").raise_for_status().json()["task_number"])
