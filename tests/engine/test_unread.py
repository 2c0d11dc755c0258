"""Objects whose bytes a bucket does not deliver."""

from __future__ import annotations

import pytest

from ls_pipeline.domain.errors import BucketUnavailableError
from ls_pipeline.engine.detect import scan_source
from ls_pipeline.engine.unread import UNREADABLE_AT_MOST
from tests.bench import Bench
from tests.engine.test_load import Wrapped

BAD = "07.json"


@pytest.fixture
def bench(empty_ledger):
    bench = Bench(empty_ledger)
    for number in range(30):
        bench.put(f"{number:02}.json", {"text": str(number)})
    return bench


def failing(bench, *keys):
    """Return the bench's bucket with some objects that can't be read, and the keys it was asked."""
    asked = []

    def get(key, version=""):
        asked.append(key)
        if key in keys:
            raise BucketUnavailableError(f"s3://bucket/{key}", "S3 can't answer now (500).")
        return bench.bucket.get(key, version)

    return Wrapped(bench.bucket, get=get), asked


def is_changed(bench):
    source = bench.connection_ledger.settings.in_force().connection.source
    return scan_source(bench.connection_ledger, source, bench.bucket).changed


def test_neighbours_of_an_unreadable_object_load_and_it_is_named(bench):
    result = bench.load(failing(bench, BAD)[0])

    assert (len(bench.tasks), (BAD, 0) in bench.tasks) == (29, False)
    assert list(bench.reasons) == [(BAD, None)]
    assert bench.reasons[BAD, None].startswith(
        "s3://bucket/07.json: S3 can't answer now (500). It is tried again at "
    )
    assert result.notes == [bench.reasons[BAD, None]]


def test_object_that_a_proxy_unpacks_is_named(bench):
    def get(key, version=""):
        return bench.bucket.get(key, version) * (2 if key == BAD else 1)

    bench.load(Wrapped(bench.bucket, get=get))

    assert len(bench.tasks) == 29
    assert "26 bytes arrived, but it has 13: something on" in bench.reasons[BAD, None]


def test_unreadable_object_is_tried_again_less_and_less_often(bench):
    bucket, asked = failing(bench, BAD)
    runs = []
    bench.load(bucket)
    for minute in range(60):
        bench.time.sleep(60)
        asked.clear()
        if is_changed(bench):
            bench.load(bucket)
            assert asked == [BAD]
            runs.append(minute)

    assert runs == [0, 1, 3, 7, 15, 31]


def test_unreadable_object_loads_once_it_can_be_read(bench):
    bench.load(failing(bench, BAD)[0])
    bench.time.sleep(60)
    bench.load()

    assert (len(bench.tasks), bench.reasons) == (30, {})


def test_new_version_of_an_unreadable_object_is_read_at_once(bench):
    bench.load(failing(bench, BAD)[0])
    bench.put(BAD, {"text": "again"})
    bench.load()

    assert (bench.tasks[BAD, 0], bench.reasons) == ({"text": "again"}, {})


def test_tasks_of_an_object_that_became_unreadable_stay(bench):
    bench.set(on_delete="delete")
    bench.load()
    bench.put(BAD, {"text": "changed"})
    bench.load(failing(bench, BAD)[0])
    before = bench.tasks[BAD, 0]
    bench.time.sleep(60)
    bench.load()

    assert (before, bench.tasks[BAD, 0]) == ({"text": "7"}, {"text": "changed"})


def test_many_unreadable_objects_in_a_row_are_the_buckets_fault(bench):
    bad = [f"{number:02}.json" for number in range(5, 5 + UNREADABLE_AT_MOST)]
    with pytest.raises(BucketUnavailableError, match="can't answer now"):
        bench.load(failing(bench, *bad)[0])

    assert (len(bench.tasks), bench.reasons) == (5, {})


def test_many_unreadable_objects_between_others_are_their_own_fault(bench):
    bad = [f"{number:02}.json" for number in range(30) if number % 4]
    bench.load(failing(bench, *bad)[0])

    assert (len(bench.tasks), len(bench.reasons)) == (8, 22)
