"""Contenders that write the labels of a real Label Studio to a bucket.

Each function sets up its work and returns a function that does it. An export returns a function
that counts the objects: listing them is no part of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.fixtures import (
    BUCKET,
    LABEL_CONFIG,
    Result,
    annotation_result,
    import_tasks,
    label_studio_client,
    new_connection,
    new_project,
    open_bucket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import HeldConnection


def our_export(url: str, annotations: int, again: int) -> Callable[[], Callable[[], Result]]:
    """Export a labeled project; with ``again``, measure the second export.

    Ten annotations are exported first, so that everything is imported when the measurement begins.
    """
    from ls_pipeline.domain.target_mark import mark_key

    LabeledConnection(url, 10).export()
    labeled = LabeledConnection(url, annotations)

    def count() -> Result:
        # The mark of the target is an object, too, and no completion.
        mark = _count_objects(labeled.bucket, mark_key(labeled.prefix))
        return {"objects": _count_objects(labeled.bucket, f"{labeled.prefix}/") - mark}

    def work() -> Callable[[], Result]:
        labeled.export()
        return count

    if again:
        work()
    return work


def label_studio_target_sync(
    url: str, annotations: int, again: int
) -> Callable[[], Callable[[], Result]]:
    """Let Label Studio sync its own S3 target storage; with ``again``, measure the second sync."""
    client, title = label_studio_client(), uuid4().hex
    project = new_project(client, title)
    import_labeled_tasks(client, project, annotations)
    storage = client.post(
        "/api/storages/export/s3",
        json={
            "project": project,
            "bucket": BUCKET,
            "prefix": title,
            "aws_access_key_id": "made-up",
            "aws_secret_access_key": "made-up",
            "region_name": "us-east-1",
        },
    ).raise_for_status()

    def count() -> Result:
        return {"objects": _count_objects(open_bucket(url), f"{title}/")}

    def work() -> Callable[[], Result]:
        storage_id = storage.json()["id"]
        sync = client.post(f"/api/storages/export/s3/{storage_id}/sync").raise_for_status()
        if sync.json()["status"] != "completed":
            raise ValueError(sync.text)
        return count

    if again:
        work()
    return work


def our_snapshot(url: str, annotations: int, changed: int) -> Callable[[], Result]:
    """Make the first snapshot; with ``changed``, the one after that many annotations changed."""
    few, labeled = LabeledConnection(url, 10), LabeledConnection(url, annotations)
    few.export()
    few.snapshot()
    labeled.export()
    if changed:
        labeled.snapshot()
        labeled.change_annotations(changed)
        labeled.export()

    def work() -> Result:
        return {"rows": labeled.snapshot()}

    return work


class LabeledConnection:
    """A connection without a source, on a project with labeled tasks."""

    def __init__(self, url: str, annotations: int) -> None:
        from ls_pipeline.resources.label_studio.app import LabelStudio

        self.prefix = f"labels/{uuid4().hex}"
        params = {"endpoint_url": url, "prefix": self.prefix}
        target = {"type": "s3-completions", "path": BUCKET, "params": params}
        self.connection_ledger, self.app = new_connection(None, target), LabelStudio()
        self.bucket = open_bucket(url)
        self.client = label_studio_client()
        self.project = self.app.create_project(self.connection_ledger.name, LABEL_CONFIG)
        import_labeled_tasks(self.client, self.project.id, annotations)

    def export(self) -> None:
        from ls_pipeline.engine.export import export_completions

        with self.connection_ledger.acquire() as held:
            export_completions(self._run(held))

    def snapshot(self) -> int:
        from ls_pipeline.engine.snapshot import write_snapshot

        with self.connection_ledger.acquire() as held:
            return write_snapshot(self._run(held)).newest.rows["annotations"]

    def _run(self, held: HeldConnection) -> RunContext:
        from ls_pipeline.engine.context import RunContext
        from ls_pipeline.resources.progress import SilentProgress

        revision = held.settings.in_force()
        return RunContext(held, revision, self.bucket, self.app, SilentProgress())

    def change_annotations(self, count: int) -> None:
        """Change annotations of tasks that are spread evenly over the project."""
        states = list(self.app.task_states(self.project.id))
        task_ids = [state.id for state in states][:: len(states) // count][:count]
        for completion in self.app.completions(self.project.id, task_ids):
            (annotation,) = completion.document["annotations"]
            body = {"result": [annotation_result("other")]}
            self.client.patch(f"/api/annotations/{annotation['id']}/", json=body).raise_for_status()


def import_labeled_tasks(client: httpx.Client, project: int, annotations: int) -> None:
    """Import tasks with one annotation each: the fastest way to a labeled project."""
    labeled = [{"result": [annotation_result("any")]}]
    tasks = [{"data": {"text": f"text {n}"}, "annotations": labeled} for n in range(annotations)]
    import_tasks(client, project, tasks)


def _count_objects(bucket: Bucket, prefix: str) -> int:
    return sum(len(page) for page in bucket.pages(prefix))
