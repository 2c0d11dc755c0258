"""A connection on parts in memory, and a ledger on disk: everything but the network."""

from __future__ import annotations

import json

from ls_pipeline.engine.export import export
from ls_pipeline.engine.load import load
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.engine.projects import projects_of
from ls_pipeline.engine.snapshot import snapshot
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.settings.validation import build_connection
from tests.contracts.memory_bucket import MemoryBucket
from tests.contracts.memory_labeling_app import MemoryLabelingApp

CONFIG = """<View><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>"""
RESULT = [{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["A"]}}]


class Time:
    """A clock of its own, on which nobody has to wait."""

    now = 1_800_000_000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Bench:
    """One connection in a ledger, given as one or by its URL, and what a test does to its world."""

    def __init__(self, ledger, name="reviews", **params):
        self.time = Time()
        self.ledger = Ledger(ledger) if isinstance(ledger, str) else ledger
        self.ledger.clock, self.ledger.sleep = self.time, self.time.sleep
        self.url = str(self.ledger.engine.url)
        self.bucket, self.target = MemoryBucket("bucket"), MemoryBucket("labels")
        self.app = MemoryLabelingApp()
        self.name = name
        self.deleted = set()
        """(key, row) of tasks that a person deleted; the ledger remembers them."""
        self.set(**params)

    def set(self, target=None, **params):
        one = build_connection(
            self.name,
            source={"type": "s3", "path": "bucket", "params": params},
            target={"type": "s3-completions", "path": "labels", "params": target or {}},
            project="Reviews",
            label_config=CONFIG,
        )
        self.ledger.save(one, "test")
        self.account = self.ledger.account(self.name)

    def put(self, key, content):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.bucket.put(key, body, "application/json")

    def load(self, account=None, bucket=None, app=None):
        account = account or self.account
        with account.lease() as lease:
            settings = account.revision().connection
            bucket, app = bucket or self.bucket, app or self.app
            return load(account, lease, settings, bucket, app, SilentProgress())

    def export(self, account=None, target=None, app=None, **how):
        account, app = account or self.account, app or self.app
        bucket = target or self.target
        with account.lease() as lease:
            settings = account.revision().connection
            projects = projects_of(account, lease, settings, app)
            return export(
                account, lease, projects, settings.target, bucket, SilentProgress(), **how
            )

    def snapshot(self, account=None, target=None, app=None):
        account, app = account or self.account, app or self.app
        bucket = target or self.target
        with account.lease() as lease:
            revision = account.revision()
            projects = projects_of(account, lease, revision.connection, app)
            return snapshot(account, lease, revision, projects, bucket, SilentProgress())

    def copy(self, side="source", bucket=None):
        """Do what the assets do for a local copy."""
        part = getattr(self.account.revision().connection, side)
        bucket = bucket or {"source": self.bucket, "target": self.target}[side]
        with self.account.lease() as lease:
            mark_mirror_stale(self.account, lease, part)
            return update_mirror(self.account, lease, part, bucket, SilentProgress())

    @property
    def tasks(self):
        """Give (key, row) → data of every task in the app; fails on a doubled one."""
        found = {}
        for task in self.app.tasks.values():
            mine = task["meta"]["ls_pipeline"]
            place = mine["uri"].removeprefix("s3://bucket/"), mine["row"]
            assert place not in found, f"doubled: {place}"
            found[place] = task["data"]
        return found

    @property
    def reasons(self):
        return {(one.key, one.row): one.reason for one in self.account.quarantined()}

    def task_id(self, key, row=0):
        return self.account.rows_of(key)[row].task_id
