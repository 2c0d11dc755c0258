"""`ls-pipeline sync` from a bucket to training data, on each cloud, on real servers."""

import json
import os
from pathlib import Path

import pytest

from ls_pipeline import open_snapshot
from ls_pipeline.cli.demo import samples
from tests.e2e.conftest import keys

pytestmark = pytest.mark.server


def put(bucket, objects):
    for key, body in objects:
        bucket.put(key, body, "application/octet-stream")


def versions(bucket):
    return [stored.version for page in bucket.pages() for stored in page]


def test_json_tasks_become_training_data_on_s3(stage):
    stage.run = stage.run_program  # each command in a process of its own
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(3))
    put(source, [("reviews/bad.json", b"not json"), ("elsewhere/x.json", b"{}")])
    folders = {"prefix": "reviews"}, {"prefix": "labels"}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, *folders)
    loaded = stage.sync("reviews")["reviews"]
    stage.label_all("reviews")
    exported = stage.sync()["reviews"]

    assert loaded == {
        "objects": 4,
        "tasks": 3,
        "completions": 0,
        "json_files": 0,
        "parquet_rows": 0,
        "quarantined": 1,
        "removed": 0,
    }
    assert exported == loaded | {"completions": 3, "json_files": 3, "parquet_rows": 3}

    # The target contains what Label Studio has.
    tasks = {f"labels/{task.task_id}.json": task for task in stage.tasks("reviews")}
    files = {key: json.loads(target.get(key)) for key in tasks}
    assert files == {key: task.document for key, task in tasks.items()}
    snapshot = open_snapshot(target.uri("labels"), cache=stage.folder / "cache")
    uris = set(snapshot.frame("annotations")["object_uri"])
    assert uris == {source.uri(key) for key, _ in samples.texts(3)}

    # A third run writes nothing; it counts a removed object, and keeps the task.
    before = versions(target)
    source.delete("reviews/review-000.json")
    third = stage.sync()["reviews"]
    assert third == exported | {"objects": 3, "removed": 1}
    assert versions(target) == before


def test_pictures_on_gcs_become_training_data_on_s3(stage):
    source, target = stage.gcs("in"), stage.s3("out")
    put(source, samples.pictures(2))
    stage.add("shapes", samples.PICTURE_CONFIG, source, target, {"use_blob_urls": True})
    stage.sync("shapes")
    stage.label_all("shapes")
    counts = stage.sync("shapes")["shapes"]

    assert (counts["tasks"], counts["json_files"], counts["parquet_rows"]) == (2, 2, 2)
    assert [task.document["data"] for task in stage.tasks("shapes")] == [
        {"image": source.uri(key)} for key, _ in samples.pictures(2)
    ]


def test_json_tasks_on_s3_become_completions_on_gcs(stage):
    source, target = stage.s3("in"), stage.gcs("out")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    stage.sync()
    stage.label_all("reviews")
    stage.sync()

    assert [key for key in keys(target) if "/" not in key] == [
        f"{task.task_id}.json" for task in stage.tasks("reviews")
    ]


def test_connections_sharing_a_project_count_separately(stage):
    first, second = stage.s3("one"), stage.gcs("two")
    put(first, samples.texts(2))
    put(second, samples.texts(3))
    labels = stage.s3("labels")
    for name, source in (("one", first), ("two", second)):
        stage.add(name, samples.TEXT_CONFIG, source, labels, target_params={"prefix": name})
    title = ["--project", stage.name("one"), "--label-config", str(stage.folder / "one.xml")]
    stage.run("connections", "remove", "two")
    stage.run(
        *("connections", "add", "two", "--source", "gcs", "--source-path", second.name),
        *("--target", "s3-completions", "--target-path", labels.name),
        *("--target-params", '{"prefix": "two"}', *title),
    )
    stage.sync()
    stage.label_all("one")
    counts = stage.sync()

    assert {name: (count["tasks"], count["json_files"]) for name, count in counts.items()} == {
        "one": (2, 2),
        "two": (3, 3),
    }


def test_local_copies_of_both_sides_equal_the_buckets(stage, live_environment):
    source, target = stage.gcs("in"), stage.s3("out")
    put(source, [*samples.texts(2), ("//Odd Name.json", b'{"text": "The lamp made my day."}')])
    both = {"create_local_copy": True}, {"create_local_copy": True, "prefix": "labels"}
    stage.add("copied", samples.TEXT_CONFIG, source, target, *both)
    stage.sync()
    stage.label_all("copied")
    source.delete("reviews/review-001.json")
    stage.sync()
    copies = Path(os.environ["LS_PIPELINE_HOME"]) / "copies" / "copied"

    for side, bucket in (("source", source), ("target", target)):
        lines = (copies / side / "index.jsonl").read_text().splitlines()
        index = {entry["key"]: entry["file"] for entry in map(json.loads, lines)}
        assert set(index) == set(keys(bucket))
        for key, file in index.items():
            assert (copies / side / file).read_bytes() == bucket.get(key)


def test_target_without_a_source_exports_its_project(stage, live_environment):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(2))
    stage.add("filled", samples.TEXT_CONFIG, source, None)
    stage.sync()
    stage.label_all("filled")
    stage.run("connections", "remove", "filled")
    stage.add("filled", samples.TEXT_CONFIG, None, target)
    live_environment.setenv("LS_PIPELINE_HOME", str(stage.folder / "another"))
    stage.add("filled", samples.TEXT_CONFIG, None, target)
    stage.run("connections", "rebind", "filled", "--take-over", "--yes")

    assert stage.sync()["filled"]["json_files"] == 2


def test_failing_connection_says_why_and_stops_no_other(stage, live_environment):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    stage.add("good", samples.TEXT_CONFIG, source, target)
    missing = ("--source", "s3", "--source-path", "no-such-bucket", "--project", "Missing")
    stage.run("connections", "add", "bad", *missing, "--label-config", "good.xml")
    reports = stage.sync(code=1)

    assert "s3://no-such-bucket/: the bucket does not exist" in reports["bad"]["error"]
    assert (reports["bad"]["objects"], reports["good"]["tasks"]) == (None, 1)


def test_refused_api_key_is_reported_without_a_traceback(stage, live_environment):
    source = stage.s3("in")
    stage.add("cats", samples.TEXT_CONFIG, source, None)
    live_environment.setenv("LABEL_STUDIO_API_KEY", "wrong")
    failed = stage.run("sync", code=1)

    assert "refuses LABEL_STUDIO_API_KEY" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout


def test_overflow_projects_count_as_one_connection(stage):
    source, target = stage.s3("in"), stage.s3("out")
    for key, body in samples.texts(25):
        source.put(key, body, "application/json")
    size, now = {"tasks_per_project": 10}, {"snapshot_minutes": 0}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, size, now)
    stage.sync()
    projects = stage.projects("reviews")
    stage.label_all("reviews")
    counts = stage.sync()["reviews"]
    status = json.loads(stage.run("status", "--json").stdout)["connections"]["reviews"]

    title, config = stage.name("reviews"), samples.TEXT_CONFIG.strip()
    assert [(project.title, project.tasks, project.label_config) for project in projects] == [
        (title, 10, config),
        (f"{title} (2)", 10, config),
        (f"{title} (3)", 5, config),
    ]
    complete = ("objects", "tasks", "completions", "json_files", "parquet_rows")
    assert counts == {**dict.fromkeys(complete, 25), "quarantined": 0, "removed": 0}
    assert status["projects"] == [f"{project.url}/data" for project in reversed(projects)]
