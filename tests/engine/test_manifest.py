"""A manifest says which keys of the listing count, and what else their tasks have."""

import gzip
import json

import pytest

from ls_pipeline.domain.errors import (
    BucketError,
    ExternalSystemError,
    InvalidConnectionError,
    MassChangeError,
    SettingsMismatchError,
)
from ls_pipeline.engine.detect import scan_source
from tests.bench import RESULT, Bench
from tests.engine.test_changed_world import KillerAfterEffects
from tests.engine.test_crashes import Killed
from tests.engine.test_label_configs import show
from tests.engine.test_predictions import prediction
from tests.engine.test_sidecars import CAPTIONED, picture, settle, texts

PARAMS = {"use_blob_urls": True, "manifest": "m.txt", "on_delete": "delete"}


@pytest.fixture
def bench(empty_ledger):
    return manifest_bench(empty_ledger)


def manifest_bench(ledger, name="reviews"):
    bench = Bench(ledger, name)
    bench.set(**PARAMS)
    show(bench, CAPTIONED)
    for key in ("a.jpg", "b.jpg", "c.jpg"):
        picture(bench, key)
    return bench


def manifest(bench, *lines, key="m.txt"):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    bench.put(key, "\n".join(texts).encode() + b"\n")


def line(key, text, **more):
    return {"key": key, "text": text, **more}


def is_changed(bench):
    connection_ledger = bench.connection_ledger
    source = connection_ledger.settings.in_force().connection.source
    return scan_source(connection_ledger, source, bench.bucket).changed


def test_only_listed_keys_become_tasks_with_their_data(bench):
    manifest(bench, line("a.jpg", "a"), line("b.jpg", "b"))
    done = bench.load()

    assert texts(bench) == {("a.jpg", 0): "a", ("b.jpg", 0): "b"}
    assert (list(done.notes), bench.reasons) == ([], {})
    assert not is_changed(bench)
    settle(bench)


@pytest.mark.parametrize(
    "entry",
    [
        {"key": "a.jpg", "text": "a"},
        {"source-ref": "s3://bucket/a.jpg", "text": "a"},
        {"image": "s3://bucket/a.jpg", "text": "a"},
        {"image": "s3://bucket/a.jpg", "text": "a", "key": "C major"},
        {"key": "a.jpg", "data": {"text": "a"}},
        {"data": {"text": "a", "image": "s3://bucket/a.jpg"}},
    ],
)
def test_line_names_its_object_in_many_ways(bench, entry):
    manifest(bench, entry)
    bench.load()

    data = {"text": "a", "image": "s3://bucket/a.jpg"}
    assert {**bench.tasks["a.jpg", 0], **data} == bench.tasks["a.jpg", 0]
    assert len(bench.tasks) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"a.json\nsub/b.json",
        b"\xef\xbb\xbfa.json\r\n\r\ns3://bucket/sub/b.json\r\n",
        gzip.compress(b"a.json\nsub/b.json\n", mtime=0),
        gzip.compress(gzip.compress(b"a.json\nsub/b.json\n", mtime=0), mtime=0),
    ],
)
def test_manifest_of_keys_selects_objects_that_hold_tasks(empty_ledger, body):
    bench = Bench(empty_ledger, manifest="lists/m.txt")
    for key in ("a.json", "sub/b.json", "c.json"):
        bench.put(key, {"text": key})
    bench.put("lists/m.txt", body)
    bench.load()

    assert {key for key, _ in bench.tasks} == {"a.json", "sub/b.json"}
    settle(bench)


def test_changed_manifest_makes_updates_and_removes_the_tasks_that_it_should(bench):
    manifest(bench, line("a.jpg", "a"), line("b.jpg", "b"))
    bench.load()
    before = bench.task_id("b.jpg")
    manifest(bench, line("b.jpg", "B"), line("c.jpg", "c"))
    assert is_changed(bench)
    done = bench.load()

    assert texts(bench) == {("b.jpg", 0): "B", ("c.jpg", 0): "c"}
    assert (done.tasks_created, done.tasks_updated, done.tasks_deleted) == (1, 1, 1)
    assert bench.task_id("b.jpg") == before
    settle(bench)
    manifest(bench, line("a.jpg", "a"), line("b.jpg", "B"), line("c.jpg", "c"))
    bench.load()
    assert len(bench.tasks) == 3
    settle(bench)


def test_labeled_task_that_is_listed_no_more_stays(bench):
    manifest(bench, line("a.jpg", "a"), line("b.jpg", "b"))
    bench.load()
    bench.app.annotate(bench.task_id("a.jpg"), RESULT)
    manifest(bench, line("b.jpg", "b"))
    done = bench.load()

    assert (len(bench.tasks), done.tasks_kept) == (2, 1)
    settle(bench)


def test_versions_still_come_from_the_listing(empty_ledger):
    bench = Bench(empty_ledger, manifest="m.txt")
    bench.put("a.json", {"text": "a"})
    manifest(bench, "a.json")
    bench.load()
    bench.put("a.json", {"text": "A"})
    bench.load()

    assert texts(bench) == {("a.json", 0): "A"}


def test_predictions_come_from_the_manifest(bench):
    manifest(bench, {"key": "a.jpg", "data": {"text": "a"}, "predictions": [prediction("m1")]})
    bench.load()
    manifest(bench, {"key": "a.jpg", "data": {"text": "a"}, "predictions": [prediction("m2")]})
    bench.load()

    assert [each["model_version"] for each in bench.app.tasks[1]["predictions"]] == ["m2"]


def test_key_without_an_object_is_named(bench):
    manifest(bench, line("a.jpg", "a"), line("x.jpg", "x"), line("y.jpg", "y"))
    done = bench.load()

    assert len(bench.tasks) == 1
    assert "'x.jpg' and 1 more" in next(iter(done.notes))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "Line 2 of the manifest s3://bucket/m.txt can't be read"),
        ({"text": "b"}, "names no object"),
        ("s3://other/b.jpg", "not in the bucket s3://bucket/"),
        (line("a.jpg", "another"), "lists 'a.jpg' twice"),
        ("[]", "JSON object, not a list"),
    ],
)
def test_line_that_cannot_be_read_is_named_and_takes_nothing_away(bench, bad, reason):
    manifest(bench, line("a.jpg", "a"), line("b.jpg", "b"))
    bench.load()
    manifest(bench, line("a.jpg", "a"), bad, line("c.jpg", "c"))
    for _ in range(2):
        assert is_changed(bench)
        with pytest.raises(ExternalSystemError, match="Correct the manifest") as caught:
            bench.load()

    assert reason in str(caught.value)
    assert texts(bench) == {("a.jpg", 0): "a", ("b.jpg", 0): "b", ("c.jpg", 0): "c"}
    manifest(bench, line("a.jpg", "a"), line("c.jpg", "c"))
    bench.load()
    assert texts(bench) == {("a.jpg", 0): "a", ("c.jpg", 0): "c"}
    settle(bench)


@pytest.mark.parametrize("body", [b"", b"\n\n", b"{\n"])
def test_manifest_without_keys_changes_nothing(bench, body):
    manifest(bench, line("a.jpg", "a"))
    bench.load()
    bench.put("m.txt", body)
    with pytest.raises(SettingsMismatchError, match="lists no keys"):
        bench.load()
    assert len(bench.tasks) == 1


def test_missing_manifest_changes_nothing(bench):
    manifest(bench, line("a.jpg", "a"))
    bench.load()
    del bench.bucket.objects["m.txt"]
    with pytest.raises(BucketError, match="the manifest does not exist"):
        bench.load()
    assert len(bench.tasks) == 1


def test_task_data_needs_objects_that_are_one_task_each(empty_ledger):
    bench = Bench(empty_ledger, manifest="m.txt")
    bench.put("a.json", {"text": "a"})
    manifest(bench, line("a.json", "b"))
    with pytest.raises(SettingsMismatchError, match="needs use_blob_urls"):
        bench.load()


def test_manifest_and_sidecars_exclude_each_other(bench):
    with pytest.raises(InvalidConnectionError, match="not both"):
        bench.set(use_blob_urls=True, manifest="m.txt", sidecar_suffix=".json")


def test_manifest_that_lost_most_of_its_lines_waits_for_consent(bench):
    keys = [f"{n:03}.jpg" for n in range(60)]
    for key in keys:
        picture(bench, key)
    manifest(bench, *(line(key, key) for key in keys))
    bench.load()
    manifest(bench, line(keys[0], keys[0]))
    with pytest.raises(MassChangeError):
        bench.load()
    assert len(bench.tasks) == 60


@pytest.mark.parametrize("was", [{}, {"sidecar_suffix": ".json"}, {"manifest": "other.txt"}])
def test_manifest_that_is_set_later_reaches_what_is_loaded(bench, was):
    show(bench, '<View><Image name="i" value="$image"/></View>')
    manifest(bench, "a.jpg", "b.jpg", key="other.txt")
    bench.set(use_blob_urls=True, on_delete="delete", regex=r".*\.jpg", **was)
    bench.load()
    manifest(bench, line("a.jpg", "a"), line("c.jpg", "c"))
    bench.set(**PARAMS)
    bench.load()

    assert texts(bench) == {("a.jpg", 0): "a", ("c.jpg", 0): "c"}
    settle(bench)


@pytest.mark.slow
def test_run_killed_anywhere_follows_the_manifest(empty_ledger):
    at = 0
    while True:
        at += 1
        bench = manifest_bench(empty_ledger, f"killed-{at}")
        manifest(bench, line("a.jpg", "a"), line("b.jpg", "b"))
        bench.load()
        manifest(bench, line("b.jpg", "B"), line("c.jpg", "c"))
        killer = KillerAfterEffects(at)
        try:
            bench.load(killer.wrap(bench.bucket), app=killer.wrap(bench.app), wrap=killer.wrap)
        except Killed:
            bench.load()
        else:
            break
        assert texts(bench) == {("b.jpg", 0): "B", ("c.jpg", 0): "c"}
        settle(bench)
    assert at > 5
