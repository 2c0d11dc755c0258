"""Contenders that find out whether a bucket has changed.

Each function sets up its work and returns a function that does it.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from benchmarks.fixtures import (
    BUCKET,
    Result,
    new_connection,
    open_bucket,
    range_boundaries,
    record_as_loaded,
)
from benchmarks.load_contenders import THREADS, load_run
from benchmarks.synthetic_s3 import NumberedKeys, content

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.resources.ledger.ledger import Ledger

LAST_MODIFIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
"""When the objects of a synthetic bucket were modified, except for new ones."""


# -- S3 -----------------------------------------------------------------------------------


def fill_ledger(ledger: str, objects: int) -> Callable[[], Result]:
    """Record all objects of a synthetic bucket in a ledger. This is setup, not a contender."""

    def work() -> Result:
        source = {"type": "s3", "path": BUCKET, "params": {}}
        with new_connection(source, ledger=ledger).acquire() as held:
            record_as_loaded(held, NumberedKeys(objects))
            return {"objects": sum(1 for _ in held.objects.known())}

    return work


def our_s3_sensor(url: str, ledger: str, new: list[str], parallel: int) -> Callable[[], Result]:
    """Run our sensor, tick by tick, until it knows whether anything differs.

    With ``parallel``, a run has stored range boundaries of all objects except the ``new`` ones, so
    that ranges are listed in parallel. Without, the sensor lists page after page.
    """
    from ls_pipeline.definitions import tune_garbage_collector
    from ls_pipeline.domain.objects import Filter
    from ls_pipeline.resources.ledger.ledger import Ledger

    tune_garbage_collector(20_000)
    bucket = open_bucket(url)
    boundaries = range_boundaries(bucket, new=new) if parallel else []
    with _only_connection(ledger).acquire() as held:
        held.objects.set_range_boundaries(Filter(), boundaries)
    return _ticks_until_done(Ledger(ledger), "s3", bucket)


def our_run_without_changes(url: str, ledger: str) -> Callable[[], Result]:
    """Load a bucket whose objects are all known; measure the second run of the process."""
    work = load_run(_only_connection(ledger), url)
    work()
    return work


def _only_connection(ledger: str) -> ConnectionLedger:
    """Open the only connection of a ledger from `fill_ledger`."""
    from ls_pipeline.resources.ledger.ledger import Ledger

    opened = Ledger(ledger)
    (name,) = opened.names()
    return opened.connection_ledger(name)


def dagster_aws_get_objects(url: str) -> Callable[[], Result]:
    """Do what a Dagster team does today: dagster-aws's helper, with a time as the cursor."""
    from dagster_aws.s3 import S3Resource
    from dagster_aws.s3.sensor import get_objects

    client = S3Resource(endpoint_url=url).get_client()
    return lambda: {
        "new": len(get_objects(BUCKET, since_last_modified=LAST_MODIFIED, client=client))
    }


def plain_http_listing(url: str) -> Callable[[], Result]:
    """List over plain HTTP and count the keys: a part of every client's work."""
    import httpx

    def work() -> Result:
        keys, token = 0, ""
        with httpx.Client() as client:
            while True:
                params = {"list-type": "2", "continuation-token": token}
                body = client.get(f"{url}/{BUCKET}", params=params).content
                keys += body.count(b"<Key>")
                _, more, rest = body.partition(b"<NextContinuationToken>")
                if not more:
                    return {"objects": keys}
                token = rest.partition(b"<")[0].decode()

    return work


# -- GCS ----------------------------------------------------------------------------------


def fill_gcs_bucket(bucket: str, objects: int) -> Callable[[], Result]:
    """Fill a new GCS bucket with the objects of a synthetic one. This is setup, not a contender."""
    from concurrent.futures import ThreadPoolExecutor

    from google.cloud.storage import Client

    from ls_pipeline.resources.gcs.bucket import GCSBuckets

    def work() -> Result:
        Client().create_bucket(bucket)
        opened = GCSBuckets().open(bucket)

        def put(key: str) -> None:
            opened.put(key, content(key), "application/json")

        with ThreadPoolExecutor(THREADS) as writers:
            list(writers.map(put, NumberedKeys(objects)))
        return {"objects": objects}

    return work


def fill_gcs_ledger(ledger: str, bucket: str) -> Callable[[], Result]:
    """Record all objects of a GCS bucket in a ledger. This is setup, not a contender."""
    from ls_pipeline.domain.diff import KnownObject, State
    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.ledger.records import LedgerUpdate

    def work() -> Result:
        objects, source = 0, {"type": "gcs", "path": bucket, "params": {}}
        with new_connection(source, ledger=ledger).acquire() as held:
            for page in GCSBuckets().open(bucket).pages():
                loaded = [KnownObject(*stored[:3], State.LOADED) for stored in page]
                held.intents.record(LedgerUpdate(finished=loaded))
                objects += len(loaded)
        return {"objects": objects}

    return work


def our_gcs_sensor(ledger: str, bucket: str, parallel: int) -> Callable[[], Result]:
    """Run our sensor over a GCS bucket whose objects are all known.

    ``parallel`` is as in `our_s3_sensor`. As the peer does, it has listed the bucket before.
    """
    from ls_pipeline.definitions import tune_garbage_collector
    from ls_pipeline.domain.objects import Filter
    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.ledger.ledger import Ledger

    tune_garbage_collector(20_000)
    opened = GCSBuckets().open(bucket)
    boundaries = range_boundaries(opened) if parallel else []
    with _only_connection(ledger).acquire() as held:
        held.objects.set_range_boundaries(Filter(), boundaries)
    work = _ticks_until_done(Ledger(ledger), "gcs", opened)
    work()
    return work


def dagster_gcp_get_gcs_keys(bucket: str) -> Callable[[], Result]:
    """Do what a Dagster team does today: dagster-gcp's helper, with the last key as the cursor."""
    from dagster_gcp.gcs import GCSResource
    from dagster_gcp.gcs.sensor import get_gcs_keys

    client = GCSResource().get_client()

    def keys(since: str | None = None) -> list[str]:
        return list(get_gcs_keys(bucket, since_key=since, gcs_session=client))  # type: ignore[no-untyped-call]

    last = keys()[-1]
    return lambda: {"new": len(keys(last))}


def _ticks_until_done(ledger: Ledger, cloud: str, bucket: Bucket) -> Callable[[], Result]:
    """Return work that runs ticks until the sensor knows whether anything differs."""
    import dagster as dg

    from ls_pipeline.sensors.objects import objects_tick

    instance = dg.DagsterInstance.ephemeral()

    def work() -> Result:
        cursor, ticks = None, 0
        while True:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            result = objects_tick(context, ledger, cloud, lambda _source: bucket)
            cursor, ticks = result.cursor, ticks + 1
            if result.run_requests or not json.loads(cursor or "")["after"]:
                return {"new": len(result.run_requests or ()), "ticks": ticks}

    return work
