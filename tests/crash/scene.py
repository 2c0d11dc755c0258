"""A connection on real servers, what happens to it, and what must be true in the end."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections import Counter

from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.engine.projects import Projects
from ls_pipeline.reader import open_snapshot
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT
from tests.e2e.conftest import keys

numbers = itertools.count()


AFTER_FILLING = (
    {("a.json", 0): "a0", ("a.json", 1): "a1", ("b.json", 0): "b0", ("c.json", 0): "c0"},
    0,
    {("bad.json", None)},
)
AFTER_CHANGES = (
    {
        ("a.json", 0): "a0",
        ("a.json", 1): "a1 changed",
        ("a.json", 2): "a2",
        ("bad.json", 0): "good",
        ("c.json", 0): "c0",  # labeled, so its task stays without its object
        ("d.json", 0): "d0",
    },
    0,
    set(),
)


class Scene:
    """One connection on real servers, with everything that can happen to it."""

    def __init__(self, run_connection, cloud, target=None, **params):
        import boto3
        from google.cloud import storage

        self.run_connection, self.app = run_connection, LabelStudio()
        self.name = f"crash-{os.getpid()}-{next(numbers)}"
        self.source, self.target = f"{self.name}-in", f"{self.name}-out"
        for bucket in (self.source, self.target):
            if cloud == "s3":
                boto3.client("s3").create_bucket(Bucket=bucket)
            else:
                storage.Client().create_bucket(bucket)
        self.buckets = S3Buckets() if cloud == "s3" else GCSBuckets()
        self.bucket, self.labels = map(self.buckets.open, (self.source, self.target))
        params = {"on_delete": "delete", "create_local_copy": True, **params}
        self.connection = build_connection(
            self.name,
            source={"type": cloud, "path": self.source, "params": params},
            target={
                "type": f"{cloud}-completions",
                "path": self.target,
                "params": {"create_local_copy": True, **(target or {})},
            },
            project=self.name,
            label_config=CONFIG,
        )
        self.ledger = Ledger(database_url())
        self.ledger.save(self.connection, "test")
        self.connection_ledger = self.ledger.connection_ledger(self.name)

    def put(self, key, *texts):
        body = json.dumps([{"text": text} for text in texts]).encode() if texts else b"not json"
        self.bucket.put(key, body, "application/json")

    def fill(self):
        self.put("a.json", "a0", "a1")
        self.put("b.json", "b0")
        self.put("c.json", "c0")
        self.put("bad.json")

    def change(self):
        """Load and export everything, then let all kinds of things happen."""
        self.fill()
        assert self.run() == ""
        self.annotate("a.json", 0)
        self.annotate("c.json", 0)
        assert self.run() == ""
        self.annotate("a.json", 0)
        self.put("a.json", "a0", "a1 changed", "a2")
        self.put("bad.json", "good")
        self.put("d.json", "d0")
        self.bucket.delete("b.json")
        self.bucket.delete("c.json")

    def annotate(self, key, row):
        task_id = self.connection_ledger.objects.rows_of(key)[row].task_id
        self.app.api.json("POST", f"api/tasks/{task_id}/annotations/", json={"result": RESULT})

    def agrees_with_snapshot(self, annotated):
        """Assert that the newest snapshot is whole, and holds these tasks' annotations."""
        with tempfile.TemporaryDirectory() as cache:
            snapshot = open_snapshot(self.labels.uri(), cache=cache)
            annotations = {task["id"]: task["annotations"] for task in snapshot.documents()}
        assert annotations == {task["id"]: task["annotations"] for task in annotated}

    def run(self):
        """Run the connection; return its error, empty if all went well."""
        return self.run_connection(self.name)

    def outcome(self):
        """Return what is in Label Studio; assert that the ledger and the target agree with it.

        That is: the text of each (key, row), the number of files without annotations, and what is
        in quarantine.
        """
        projects = Projects(self.connection_ledger, self.app)
        tasks = projects.completions([state.id for state in projects.task_states()])
        origins = [parse_origin(task.document["meta"]) for task in tasks]
        places = Counter((origin.uri.rpartition("/")[2], origin.row) for origin in origins)
        assert max(places.values()) == 1, f"doubled: {places}"
        rows = {key: self.connection_ledger.objects.rows_of(key) for key, _ in places}
        ids = {(key, row): rows[key][row].task_id for key, row in places if row in rows[key]}
        known = {
            place: task.task_id for place, task in zip(places, tasks, strict=True) if place in ids
        }
        assert ids == known
        files = {key for key in keys(self.labels) if not key.startswith("training_data/")}
        annotated = [task for task in tasks if task.annotations]
        self.agrees_with_snapshot([task.document for task in annotated])
        for task in annotated:
            assert json.loads(self.labels.get(f"{task.task_id}.json")) == task.document
        data = [task.document["data"]["text"] for task in tasks]
        texts = dict(zip(places, data, strict=True))
        quarantined = self.connection_ledger.objects.quarantined()
        return texts, len(files) - len(annotated), {(item.key, item.row) for item in quarantined}
