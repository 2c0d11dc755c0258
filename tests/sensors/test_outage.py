"""An hour's outage of Label Studio or a bucket, tick by tick, on a simulated clock."""

import re

import dagster as dg
import pytest

from ls_pipeline.assets.run import connection_run
from ls_pipeline.domain.errors import BucketUnavailableError, LabelStudioUnavailableError
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.engine.unread import UNREADABLE_AT_MOST
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.sensors.objects import objects_tick
from tests.bench import Bench
from tests.engine.test_load import Wrapped

pytestmark = pytest.mark.slow

TICK = 30
HOUR = 3600


@pytest.fixture
def bench(empty_ledger):
    bench = Bench(empty_ledger)
    bench.put("a.json", {"text": "a"})
    return bench


def is_down(*_):
    raise LabelStudioUnavailableError("Label Studio does not answer.")


def can_not_be_read(*_):
    raise BucketUnavailableError("s3://bucket/a.json", "no answer.")


def tick(bench, instance, app, bucket):
    """Do what Dagster does every 30 s; return the skip message, or the result of the run."""
    context = dg.build_sensor_context(instance=instance)
    result = objects_tick(context, bench.ledger, "s3", lambda _: bucket)
    bench.time.sleep(TICK)
    if not result.run_requests:
        return result.skip_reason.skip_message
    try:
        asset = dg.build_asset_context(partition_key=bench.name)
        with connection_run(asset, bench.ledger, "tasks") as held:
            revision = held.settings.in_force()
            load_tasks(RunContext(held, revision, bucket, app, SilentProgress()))
    except dg.Failure as failure:
        return f"failed: {failure.description}"
    return "loaded"


@pytest.mark.parametrize("what", ["Label Studio", "reads of the bucket", "the bucket"])
def test_outage_of_an_hour_makes_few_runs_says_why_and_ends_by_itself(bench, instance, what):
    app, bucket = bench.app, bench.bucket
    if what == "Label Studio":
        app = Wrapped(app, create_project=is_down, project=is_down)
    elif what == "reads of the bucket":
        for number in range(UNREADABLE_AT_MOST):
            bench.put(f"b/{number}.json", {"text": "b"})
        bucket = Wrapped(bucket, get=can_not_be_read)
    else:
        bucket = Wrapped(bucket, pages=can_not_be_read)
    said = [tick(bench, instance, app, bucket) for _ in range(HOUR // TICK)]
    after = [tick(bench, instance, bench.app, bench.bucket) for _ in range(HOUR // TICK)]

    assert sum(one.startswith("failed") for one in said) <= 8
    for one in said:
        if not one.startswith("failed"):
            assert re.search(r"no(t)? answer.*", one)
            assert what == "the bucket" or re.search(r"Trying again at \d\d:\d\d:\d\d UTC\.", one)
    assert after.count("loaded") == 1
    assert ("a.json", 0) in bench.tasks


def test_failing_connection_holds_up_no_other(bench, instance):
    other = Bench(bench.url, name="other")
    other.bucket.put("a.json", b'{"text": "a"}', "application/json")
    other.app, other.bucket = Wrapped(other.app, create_project=is_down), bench.bucket
    tick(other, instance, other.app, other.bucket)

    assert "other: Label Studio does not answer." in " ".join(
        tick(bench, instance, bench.app, bench.bucket) for _ in range(2)
    )
    assert list(bench.tasks) == [("a.json", 0)]
    other.ledger.close()
