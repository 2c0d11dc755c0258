"""A deployment with many connections, in which only the source buckets are synthetic."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from benchmarks.fixtures import LABEL_CONFIG, range_boundaries, record_as_loaded
from benchmarks.synthetic_s3 import NumberedKeys, synthetic_s3
from ls_pipeline.cli.servers.local_servers import daemons_are_healthy
from ls_pipeline.cli.servers.server import Server
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.settings.validation import build_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ls_pipeline.resources.ledger.ledger import Ledger

LABELS_BUCKET = "labels"
"""The target bucket of all connections."""

BIG, MISSING, SILENT = "big", "missing", "silent"
"""Special connections: one with very many objects, and two whose buckets fail."""


@dataclass(frozen=True)
class Shape:
    """The number of small connections and of their objects, and the objects of the big one."""

    connections: int
    objects: int
    big: int

    @property
    def small(self) -> list[str]:
        return [f"load-{number:03}" for number in range(self.connections)]


@contextmanager
def source_buckets(shape: Shape, latency: float) -> Iterator[str]:
    """Serve a synthetic bucket for each connection, with the connection's name."""
    sizes = [f"{BIG}={shape.big}"]
    with synthetic_s3(
        shape.objects, latency, bucket=sizes, missing=[MISSING], silent=[SILENT]
    ) as url:
        yield url


def fill(ledger: Ledger, shape: Shape, source_url: str, target_url: str) -> None:
    """Create all connections, and load the objects of the small ones.

    The objects of the big connection are only recorded as loaded. In Label Studio, it has no tasks
    until its objects change.
    """
    boto3.client("s3", endpoint_url=target_url).create_bucket(Bucket=LABELS_BUCKET)
    target = {"type": "s3-completions", "path": LABELS_BUCKET}
    for name in (*shape.small, BIG, MISSING, SILENT):
        endpoint = {"endpoint_url": source_url}
        settings = build_connection(
            name,
            source={"type": "s3", "path": name, "params": {**endpoint, "prefix": "objects"}},
            target={**target, "params": {"endpoint_url": target_url, "prefix": name}},
            project=name,
            label_config=LABEL_CONFIG,
        )
        ledger.save(settings, "benchmarks")
    buckets, app = S3Buckets(endpoint_url=source_url), LabelStudio()

    def load_all(name: str) -> None:
        with ledger.acquire(name) as held:
            revision, bucket = held.settings.in_force(), buckets.open(name)
            load_tasks(RunContext(held, revision, bucket, app, SilentProgress()))

    for name in shape.small:  # a busy Label Studio on SQLite would create some projects twice
        app.create_project(name, LABEL_CONFIG)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(load_all, shape.small):
            pass
    _record_big_connection(ledger, shape.big, app, buckets)


def _record_big_connection(
    ledger: Ledger, objects: int, app: LabelStudio, buckets: S3Buckets
) -> None:
    connection_ledger = ledger.connection_ledger(BIG)
    source = connection_ledger.settings.in_force().connection.source
    assert source is not None  # noqa: S101 - for the type alone
    select = source.params.filter
    boundaries = range_boundaries(buckets.open(BIG), select.folder)
    with connection_ledger.acquire() as held:
        held.projects.add({1: app.create_project(BIG, LABEL_CONFIG)})
        record_as_loaded(held, NumberedKeys(objects))
        held.objects.set_range_boundaries(select, boundaries)


def pipeline(home: Path, environment: Mapping[str, str]) -> Server:
    """Return ``ls-pipeline start`` in a home that is already filled, not started yet."""
    program = Path(sys.executable).with_name("ls-pipeline")
    return Server(
        "ls-pipeline start",
        [str(program), "start", "--port", "{port}"],
        home / "logs" / "start.log",
        environment={**os.environ, "LS_PIPELINE_HOME": str(home), **environment},
        is_up=daemons_are_healthy,
        patience=300,
    )
