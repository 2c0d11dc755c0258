"""A connection with its buckets and labeling app in memory, and a ledger on disk."""

from __future__ import annotations

import json
from contextlib import contextmanager

from ls_pipeline.domain.target_mark import mark_key
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.export import export_completions
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.engine.rebind import Choice, rebind
from ls_pipeline.engine.snapshot import write_snapshot
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.settings.validation import build_connection
from tests.contracts.memory_bucket import MemoryBucket
from tests.contracts.memory_labeling_app import MemoryLabelingApp

CONFIG = """<View><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>"""
RESULT = [{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["A"]}}]


class FakeClock:
    """A clock that only moves when a test sleeps on it, which takes no time."""

    now = 1_800_000_000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Bench:
    """One connection, its ledger (an object or a URL), and the systems that it works with."""

    def __init__(self, ledger, name="reviews", **params):
        self.time = FakeClock()
        self.ledger = Ledger(ledger) if isinstance(ledger, str) else ledger
        self.ledger.database.clock, self.ledger.database.sleep = self.time, self.time.sleep
        self.url = str(self.ledger.database.engine.url)
        self.bucket, self.target = MemoryBucket("bucket"), MemoryBucket("labels")
        self.app = MemoryLabelingApp()
        self.name = name
        self.deleted = set()
        """(key, row) of tasks that a person deleted, and which the ledger still lists."""
        self.set(**params)

    def set(self, target=None, **params):
        """Save the connection with these params of its source and target."""
        connection = build_connection(
            self.name,
            source={"type": "s3", "path": "bucket", "params": params},
            target={"type": "s3-completions", "path": "labels", "params": target or {}},
            project="Reviews",
            label_config=CONFIG,
        )
        self.ledger.save(connection, "test")
        self.connection_ledger = self.ledger.connection_ledger(self.name)

    def put(self, key, content):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.bucket.put(key, body, "application/json")

    def fill(self, names, labeled):
        """Load an object with one task for each name, and label the tasks of some of them."""
        for name in names:
            self.put(f"{name}.json", {"text": str(name)})
        self.load()
        for name in labeled:
            self.app.annotate(self.task_id(f"{name}.json"), RESULT)

    def load(self, bucket=None, **context):
        with self.run(bucket or self.bucket, **context) as run:
            return load_tasks(run)

    def export(self, target=None, *, has_changed=False, **context):
        with self.run(target or self.target, **context) as run:
            return export_completions(run, has_changed=has_changed)

    def snapshot(self, target=None, **context):
        with self.run(target or self.target, **context) as run:
            return write_snapshot(run)

    def copy(self, side="source", bucket=None):
        """Update a side's local copy as the assets do."""
        settings = getattr(self.connection_ledger.settings.in_force().connection, side)
        bucket = bucket or {"source": self.bucket, "target": self.target}[side]
        with self.run(bucket) as run:
            mark_mirror_stale(run, settings)
            return update_mirror(run, settings)

    @contextmanager
    def run(self, bucket, app=None, wrap=lambda held: held, connection_ledger=None, **context):
        """Hold the connection; yield the context of a run.

        ``wrap`` replaces the held connection, for example by an object that fails.
        """
        with (connection_ledger or self.connection_ledger).acquire() as held:
            revision, app = held.settings.in_force(), app or self.app
            yield RunContext(wrap(held), revision, bucket, app, SilentProgress(), **context)

    def rebind(self, choice):
        """Bind the connection anew."""
        with self.run(self.target) as run:
            return rebind(run, Choice(choice))

    def replace_ledger(self, url):
        """Go on with another ledger, such as a new one, as a second installation would."""
        self.ledger = Ledger(url, self.time, self.time.sleep)
        self.set()

    def fail(self, work, failure, **options):
        """Record that a run failed."""
        with self.connection_ledger.acquire() as held:
            held.health.record_failure(work, failure, **options)

    def succeed(self, work):
        """Record that a run succeeded."""
        with self.connection_ledger.acquire() as held:
            held.health.record_success(work)

    @property
    def tasks(self):
        """Return (key, row) → data of every task in the app. Fails on a duplicate."""
        tasks = {}
        for task in self.app.tasks.values():
            origin = task["meta"]["ls_pipeline"]
            key_and_row = origin["uri"].removeprefix("s3://bucket/"), origin["row"]
            assert key_and_row not in tasks, f"duplicate: {key_and_row}"
            tasks[key_and_row] = task["data"]
        return tasks

    @property
    def files(self):
        """Return key → body of every object in the target but its mark."""
        mark = mark_key(self.connection_ledger.settings.in_force().connection.target.params.prefix)
        return {key: body for key, body in self.target.objects.items() if key != mark}

    @property
    def reasons(self):
        """Return (key, row) → reason of what is in quarantine."""
        quarantined = self.connection_ledger.objects.quarantined()
        return {(item.key, item.row): item.reason for item in quarantined}

    def task_id(self, key, row=0):
        return self.connection_ledger.objects.rows_of(key)[row].task_id
