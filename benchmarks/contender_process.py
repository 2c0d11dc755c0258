"""What is measured: ``python -m benchmarks.contender_process NAME {…} PID``, a process each.

A contender is a function that sets up and gives another, whose time, processor and result count.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import export_contenders, load_contenders
from benchmarks.contender import processor_of
from benchmarks.load_contenders import BUCKET
from benchmarks.synthetic_s3 import Numbered, etag

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.ledger import Ledger

NEWEST = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
"""When everything in a made-up bucket was modified, except for what is new."""

Result = dict[str, Any]


def made_up_ledger(ledger: str, objects: int) -> Callable[[], Result]:
    """Fill a ledger with all that a list server of so many objects lists. No contender."""
    from ls_pipeline.domain.diff import KnownObject, State

    def work() -> Result:
        keys = Numbered(objects)
        account = load_contenders.new_account(
            {"type": "s3", "path": BUCKET, "params": {}}, ledger=ledger
        )
        with account.lease() as lease:
            for begin in range(0, objects, 10_000):
                known = [
                    KnownObject(key, etag(key), len(key) + 12, State.LOADED)
                    for key in keys[begin : begin + 10_000]
                ]
                account.record(lease, finished=known)
        return {"objects": sum(1 for _ in account.known())}

    return work


def _account_in(ledger: str) -> Account:
    """Open the one connection of a made-up ledger."""
    from ls_pipeline.resources.ledger.ledger import Ledger

    opened = Ledger(ledger)
    (name,) = opened.names()
    return opened.account(name)


def sensor(url: str, ledger: str, new: list[str], parallel: int) -> Callable[[], Result]:
    """Let our sensor look at a bucket, tick by tick, until it knows whether anything differs.

    ``parallel`` after a pass over all but the ``new`` objects, else as if there had been none.
    """
    from ls_pipeline.definitions import tune_garbage_collector
    from ls_pipeline.domain.listing_ranges import BoundaryTracker, RangeDiff
    from ls_pipeline.domain.objects import Filter

    tune_garbage_collector(20_000)
    account = _account_in(ledger)
    tracker = BoundaryTracker()
    ranges = load_contenders.bucket_at(url).ranges() if parallel else ()
    for listing_range in ranges:
        tracker.record(RangeDiff(listing_range.through, 0, [], completed=listing_range))
    with account.lease() as lease:
        account.set_range_boundaries(lease, Filter(), tracker.range_boundaries(new))
    return _ticks(account.ledger, "s3", load_contenders.bucket_at(url))


def pass_over_known(url: str, ledger: str) -> Callable[[], Result]:
    """Make a pass over a bucket of which everything is known; the second of its process."""
    work = load_contenders.pass_over(_account_in(ledger), url)
    work()
    return work


def gcs_sensor(bucket: str) -> Callable[[], Result]:
    """Let our sensor look at a bucket of the GCS emulator, all of which its ledger knows."""
    from ls_pipeline.definitions import tune_garbage_collector
    from ls_pipeline.domain.diff import KnownObject, State
    from ls_pipeline.resources.gcs.bucket import GCSBuckets

    tune_garbage_collector(20_000)
    opened = GCSBuckets().open(bucket)
    account = load_contenders.new_account({"type": "gcs", "path": bucket, "params": {}})
    with account.lease() as lease:
        for page in opened.pages():
            loaded = [KnownObject(*one[:3], State.LOADED) for one in page]
            account.record(lease, finished=loaded)
    work = _ticks(account.ledger, "gcs", opened)
    work()  # Google's client imports at its first page what it needs
    return work


def _ticks(known: Ledger, cloud: str, bucket: Bucket) -> Callable[[], Result]:
    """Let a sensor tick until it knows whether anything differs."""
    import dagster as dg

    from ls_pipeline.sensors.objects import objects_tick

    instance = dg.DagsterInstance.ephemeral()

    def work() -> Result:
        cursor, ticks = None, 0
        while True:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            told = objects_tick(context, known, cloud, lambda _source: bucket)
            cursor, ticks = told.cursor, ticks + 1
            if told.run_requests or not json.loads(cursor or "")[1]:
                return {"new": len(told.run_requests or ()), "ticks": ticks}

    return work


def get_gcs_keys(bucket: str) -> Callable[[], Result]:
    """Do what a Dagster team does today: dagster-gcp's helper, with the last key as the cursor."""
    from dagster_gcp.gcs import GCSResource
    from dagster_gcp.gcs.sensor import get_gcs_keys as helper

    client = GCSResource().get_client()

    def keys(since: str | None = None) -> list[str]:
        return list(helper(bucket, since_key=since, gcs_session=client))  # type: ignore[no-untyped-call]

    last = keys()[-1]
    return lambda: {"new": len(keys(last))}


def filled_gcs_bucket(bucket: str, objects: int) -> Callable[[], Result]:
    """Fill a bucket of the GCS emulator. No contender."""
    from google.cloud import storage

    from ls_pipeline.resources.gcs.bucket import GCSBuckets

    def work() -> Result:
        storage.Client().create_bucket(bucket)
        opened = GCSBuckets().open(bucket)
        for key in Numbered(objects)[:]:
            opened.put(key, b"{}", "application/json")
        return {"objects": objects}

    return work


def get_objects(url: str) -> Callable[[], Result]:
    """Do what a Dagster team does today: dagster-aws's helper, with a time as the cursor."""
    from dagster_aws.s3 import S3Resource
    from dagster_aws.s3.sensor import get_objects as helper

    client = S3Resource(endpoint_url=url).get_client()
    return lambda: {"new": len(helper(BUCKET, since_last_modified=NEWEST, client=client))}


def raw_listing(url: str) -> Callable[[], Result]:
    """List over plain HTTP and count the keys: what no client can do without."""
    import httpx

    def work() -> Result:
        found, token = 0, ""
        with httpx.Client() as client:
            while True:
                asked = {"list-type": "2", "continuation-token": token}
                body = client.get(f"{url}/{BUCKET}", params=asked).content
                found += body.count(b"<Key>")
                _, more, rest = body.partition(b"<NextContinuationToken>")
                if not more:
                    return {"objects": found}
                token = rest.partition(b"<")[0].decode()

    return work


CONTENDERS: dict[str, Callable[..., Callable[[], Result]]] = {
    one.__name__: one
    for one in (
        made_up_ledger,
        sensor,
        pass_over_known,
        get_objects,
        raw_listing,
        gcs_sensor,
        get_gcs_keys,
        filled_gcs_bucket,
        load_contenders.filled_bucket,
        load_contenders.our_pass,
        load_contenders.label_studio_sync,
        load_contenders.import_alone,
        load_contenders.list_and_import,
        load_contenders.reading_alone,
        export_contenders.our_export,
        export_contenders.our_snapshot,
        export_contenders.label_studio_target_sync,
    )
}


def processor() -> float:
    """Give the seconds of processor time that this process took, its ended children included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_megabytes() -> float:
    """Give the most memory that this process had, its libraries included."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Run one contender; print what it found and what it took, as JSON."""
    name, asked, server = sys.argv[1:]
    work = CONTENDERS[name](**json.loads(asked))
    gc.collect()  # of what importing left, nobody pays for here
    used, began = processor() + processor_of(int(server)), time.perf_counter()
    result = work()
    took = {
        "seconds": time.perf_counter() - began,
        "processor": processor() + processor_of(int(server)) - used,
        "megabytes": peak_megabytes(),
    }
    sys.stdout.write("\n" + json.dumps({"result": result, **took}) + "\n")


if __name__ == "__main__":
    main()
