"""A run records range boundaries, so that the next one reads only the ranges that changed."""

from __future__ import annotations

import dagster as dg
import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import BucketUnavailableError
from ls_pipeline.domain.listing_ranges import PAGE
from ls_pipeline.domain.objects import Filter
from ls_pipeline.sensors.objects import objects_tick
from tests.engine.test_bugs_of_other_tools import put
from tests.engine.test_load import Wrapped

ALL = Filter()


def read_keys(bench, select=ALL):
    """Return the keys that a scan must compare one by one."""
    ranges = bench.bucket.ranges(
        select.folder, "", bench.connection_ledger.objects.range_boundaries(select)
    )
    return [listed.key for listing_range in ranges for listed in listing_range.objects]


def test_run_leaves_nothing_to_read(bench):
    put(bench, *(f"{number:04}" for number in range(2100)))
    bench.load()

    boundaries = bench.connection_ledger.objects.range_boundaries(ALL)
    assert [boundary.listed for boundary in boundaries] == [PAGE, PAGE, 102]
    assert read_keys(bench) == []
    assert bench.load().changes == {Change.UNCHANGED: 2100}


def test_only_the_range_with_a_change_is_read(bench):
    put(bench, *(f"{number:04}" for number in range(2100)))
    bench.load()
    bench.bucket.delete("1500")
    keys = read_keys(bench)
    result = bench.load()

    assert (keys[0], keys[-1]) == ("0999", "1997")
    assert result.changes == {Change.UNCHANGED: 2099, Change.REMOVED: 1}


def test_wider_filter_reads_what_the_narrower_excluded(bench):
    bench.set(regex="a")
    put(bench, "a1", "b1")
    bench.load()
    narrow = bench.load()
    bench.set(regex="")
    wide = bench.load()

    assert (narrow.filtered, narrow.listed, narrow.changes[Change.FILTERED]) == (1, 2, 1)
    assert wide.changes == {Change.UNCHANGED: 1, Change.ADDED: 1}


def test_retried_quarantine_is_read_again(bench):
    bench.put("bad.json", b"{")
    bench.load()
    before = read_keys(bench)
    with bench.connection_ledger.acquire() as held:
        held.objects.release(["bad.json"])

    assert (before, read_keys(bench)) == ([], ["bad.json"])


def test_object_that_could_not_be_read_is_retried(bench):
    put(bench, "a", "b")

    def get(key, version=""):
        if key == "b":
            raise BucketUnavailableError("s3://bucket/b", "no answer")
        return bench.bucket.get(key, version)

    bench.load(bucket=Wrapped(bench.bucket, get=get))
    bench.time.sleep(60)
    bench.load()

    assert sorted(key for key, _ in bench.tasks) == ["a", "b"]


@pytest.mark.slow
def test_objects_deleted_after_a_failed_run_are_removed(bench):
    """The bucket lists as it did before them, but the ledger knows some of them."""
    bench.set(on_delete="delete")
    put(bench, "a", "c")
    bench.load()
    new = [f"b{number:04}" for number in range(2100)]
    put(bench, *new)

    def cut_off(*args, **kwargs):
        yield from bench.bucket.ranges(*args, **kwargs)
        raise BucketUnavailableError("s3://bucket/", "no answer")

    with pytest.raises(BucketUnavailableError):
        bench.load(bucket=Wrapped(bench.bucket, ranges=cut_off))
    loaded = len(bench.tasks)
    for key in new:
        bench.bucket.delete(key)
    bench.load(allow_mass_change=True)

    assert loaded > 2
    assert sorted(key for key, _ in bench.tasks) == ["a", "c"]


def test_changed_object_requests_a_run_once_the_filter_matches(bench):
    """While the filter excludes the object, its change requests no run."""
    put(bench, "a", "b")
    bench.load()
    bench.set(regex="b")
    bench.bucket.put("a", b"{}", "text/plain")
    bench.load()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance)
        quiet = objects_tick(context, bench.ledger, "s3", lambda _: bench.bucket)
        bench.set(regex="")
        result = objects_tick(context, bench.ledger, "s3", lambda _: bench.bucket)

    assert not quiet.run_requests
    assert result.run_requests
