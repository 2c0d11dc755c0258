"""A deployment with many connections: all of it is real but the buckets of their sources."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from benchmarks.contender import list_server
from benchmarks.load_contenders import CONFIG
from benchmarks.synthetic_s3 import Numbered, etag
from ls_pipeline.cli.servers.local_servers import daemons_are_healthy
from ls_pipeline.cli.servers.server import Server
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.listing_ranges import BoundaryTracker, RangeDiff
from ls_pipeline.engine.load import load
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ls_pipeline.resources.ledger.ledger import Ledger

LABELS = "labels"
"""The bucket that all completions go to."""

BIG, MISSING, SILENT = "big", "missing", "silent"
"""Connections beside the many: one with very many objects, and two whose buckets fail."""


@dataclass(frozen=True)
class Shape:
    """How many connections with how many objects each, and the objects of one more."""

    connections: int
    objects: int
    big: int

    @property
    def small(self) -> list[str]:
        return [f"load-{number:03}" for number in range(self.connections)]

    @property
    def changing(self) -> list[str]:
        """The connections whose buckets answer."""
        return [*self.small, BIG]


@contextmanager
def made_up_buckets(shape: Shape, latency: float) -> Iterator[str]:
    """Serve a bucket for each connection, of its name."""
    sizes = [f"{BIG}={shape.big}"]
    with list_server(
        shape.objects, latency, bucket=sizes, missing=[MISSING], silent=[SILENT]
    ) as url:
        yield url


def fill(ledger: Ledger, shape: Shape, source_url: str, target_url: str) -> None:
    """Make all connections, and load what is in their buckets.

    Of the big one the ledger is told that all is loaded: Label Studio has no tasks of it but
    those of what changes from now on.
    """
    boto3.client("s3", endpoint_url=target_url).create_bucket(Bucket=LABELS)
    target = {"type": "s3-completions", "path": LABELS}
    for name in (*shape.changing, MISSING, SILENT):
        at = {"endpoint_url": source_url}
        settings = build_connection(
            name,
            source={"type": "s3", "path": name, "params": {**at, "prefix": "objects"}},
            target={**target, "params": {"endpoint_url": target_url, "prefix": name}},
            project=name,
            label_config=CONFIG,
        )
        ledger.save(settings, "benchmarks")
    buckets, app = S3Buckets(endpoint_url=source_url), LabelStudio()

    def load_all(name: str) -> None:
        account = ledger.account(name)
        settings = account.revision().connection
        with account.lease() as lease:
            load(account, lease, settings, buckets.open(name), app, SilentProgress())

    for name in shape.small:  # Label Studio on SQLite makes one twice while it is busy
        app.find_or_create_project(name, CONFIG)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(load_all, shape.small):
            pass
    _claim(ledger, shape.big, app, buckets)


def _claim(ledger: Ledger, objects: int, app: LabelStudio, buckets: S3Buckets) -> None:
    account, keys = ledger.account(BIG), Numbered(objects)
    source = account.revision().connection.source
    assert source is not None  # noqa: S101 - for the type alone
    select, tracker = source.params.filter, BoundaryTracker()
    for listing_range in buckets.open(BIG).ranges(select.folder):
        tracker.record(RangeDiff(listing_range.through, 0, [], completed=listing_range))
    with account.lease() as lease:
        account.set_projects(lease, {1: app.find_or_create_project(BIG, CONFIG).id})
        for begin in range(0, objects, 10_000):
            known = [
                KnownObject(key, etag(key), len(key) + 12, State.LOADED)
                for key in keys[begin : begin + 10_000]
            ]
            account.record(lease, finished=known)
        account.set_range_boundaries(lease, select, tracker.range_boundaries([]))


def pipeline(home: Path, environment: Mapping[str, str]) -> Server:
    """Give what a person starts, in a home that is filled: Dagster, and who watches it."""
    program = Path(sys.executable).with_name("ls-pipeline")
    return Server(
        "ls-pipeline start",
        [str(program), "start", "--port", "{port}"],
        home / "logs" / "start.log",
        environment={**os.environ, "LS_PIPELINE_HOME": str(home), **environment},
        is_up=daemons_are_healthy,
        patience=300,
    )
