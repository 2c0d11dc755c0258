"""Contenders at writing the labels of a real Label Studio to a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.load_contenders import (
    BUCKET,
    CONFIG,
    bucket_at,
    client_of_label_studio,
    import_tasks,
    label,
    new_account,
    new_project,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.lease import Lease

Result = dict[str, Any]


def our_export(url: str, annotations: int, again: int) -> Callable[[], Result]:
    """Export a labeled project; with ``again`` a second time.

    Another, of ten, comes before: it imports what is only imported when it is needed.
    """
    _Ours(url, 10).export()
    ours = _Ours(url, annotations)

    def work() -> Result:
        ours.export()
        return {"objects": _count(ours.bucket, f"{ours.prefix}/")}

    if again:
        work()
    return work


def label_studio_target_sync(url: str, annotations: int, again: int) -> Callable[[], Result]:
    """Let Label Studio sync its own S3 target storage; with ``again`` a second time."""
    client, title = client_of_label_studio(), uuid4().hex
    project = new_project(client, title)
    import_labeled(client, project, annotations)
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

    def work() -> Result:
        number = storage.json()["id"]
        done = client.post(f"/api/storages/export/s3/{number}/sync").raise_for_status()
        if done.json()["status"] != "completed":
            raise ValueError(done.text)
        return {"objects": _count(bucket_at(url), f"{title}/")}

    if again:
        work()
    return work


def our_snapshot(url: str, annotations: int, changed: int) -> Callable[[], Result]:
    """Make the first snapshot or, with ``changed``, the one after so many annotations changed."""
    few, ours = _Ours(url, 10), _Ours(url, annotations)
    for one in (few, ours):
        one.export()
    few.snapshot()
    if changed:
        ours.snapshot()
        ours.change(changed)
        ours.export()

    def work() -> Result:
        return {"rows": ours.snapshot()}

    return work


class _Ours:
    """A connection without a source, on a project with labeled tasks."""

    def __init__(self, url: str, annotations: int) -> None:
        from ls_pipeline.resources.label_studio.app import LabelStudio

        self.prefix = f"labels/{uuid4().hex}"
        params = {"endpoint_url": url, "prefix": self.prefix}
        target = {"type": "s3-completions", "path": BUCKET, "params": params}
        self.account, self.app = new_account(None, target), LabelStudio()
        self.bucket = bucket_at(url)
        self.client = client_of_label_studio()
        self.project = self.app.find_or_create_project(self.account.name, CONFIG)
        import_labeled(self.client, self.project.id, annotations)

    def export(self) -> None:
        from ls_pipeline.engine.export import export
        from ls_pipeline.resources.progress import SilentProgress

        with self.account.lease() as lease:
            target = self.account.revision().connection.target
            assert target is not None  # noqa: S101 - for the type alone
            export(
                self.account, lease, self._projects(lease), target, self.bucket, SilentProgress()
            )

    def snapshot(self) -> int:
        from ls_pipeline.engine.snapshot import snapshot
        from ls_pipeline.resources.progress import SilentProgress

        with self.account.lease() as lease:
            revision = self.account.revision()
            parts = self.account, lease, revision, self._projects(lease), self.bucket
            return snapshot(*parts, SilentProgress()).newest.rows["annotations"]

    def _projects(self, lease: Lease) -> Projects:
        from ls_pipeline.engine.projects import projects_of

        return projects_of(self.account, lease, self.account.revision().connection, self.app)

    def change(self, count: int) -> None:
        """Relabel tasks, spread over all of them as people's second thoughts are."""
        states = list(self.app.task_states(self.project.id))
        some = [one.id for one in states][:: len(states) // count][:count]
        for completion in self.app.completions(self.project.id, some):
            (annotation,) = completion.document["annotations"]
            body = {"result": [label("other")]}
            self.client.patch(f"/api/annotations/{annotation['id']}/", json=body).raise_for_status()


def import_labeled(client: httpx.Client, project: int, annotations: int) -> None:
    """Import tasks, each with an annotation: the fastest way to a labeled project."""
    labeled = [{"result": [label("any")]}]
    tasks = [{"data": {"text": f"text {n}"}, "annotations": labeled} for n in range(annotations)]
    import_tasks(client, project, tasks)


def _count(bucket: Bucket, prefix: str) -> int:
    return sum(len(page) for page in bucket.pages(prefix))
