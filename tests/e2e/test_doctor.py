"""`ls-pipeline doctor` on the real servers: what it finds, and that it leaves nothing behind."""

import json
import shlex

import pytest

from ls_pipeline.cli.demo import samples
from tests.e2e.conftest import keys

pytestmark = pytest.mark.server


def put(bucket, objects):
    for key, body in objects:
        bucket.put(key, body, "application/octet-stream")


def examined(stage, *names, code=0):
    return json.loads(stage.run("doctor", *names, "--json", code=code).stdout)


def states(checks):
    return {one["check"]: one["state"] for one in checks}


def said(report, name, check):
    (one,) = (one for one in report["connections"][name]["checks"] if one["check"] == check)
    return one


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_all_is_well_with_blobs_before_and_after_a_pass(stage, cloud):
    source, target = getattr(stage, cloud)("in"), getattr(stage, cloud)("out")
    put(source, samples.pictures(1))
    stage.add("shapes", samples.PICTURE_CONFIG, source, target, {"use_blob_urls": True})
    before = examined(stage)
    stage.sync()
    after = examined(stage)

    assert set(states(before["general"]).values()) == {"ok"}
    first, last = (states(one["connections"]["shapes"]["checks"]) for one in (before, after))
    blobs = ("blobs: open", "blobs: CORS")
    assert {check for check, state in first.items() if state != "ok"} == set(blobs)
    assert [first[check] for check in blobs] == ["skipped", "skipped"]
    assert set(last.values()) == {"ok"}, after
    assert before["ok"]
    assert [key for key in keys(target) if "doctor" in key] == []


def test_json_tasks_are_tried_and_nothing_is_made(stage):
    source, target = stage.s3("in"), stage.gcs("out")
    put(source, samples.texts(2))
    stage.add("reviews", samples.TEXT_CONFIG, source, target, {"prefix": "reviews"})
    report = examined(stage, "reviews")

    assert "2 of 2 objects" in said(report, "reviews", "source: list")["says"]
    assert "has 1 task" in said(report, "reviews", "source: read")["says"]
    assert "will create" in said(report, "reviews", "project")["says"]
    assert keys(target) == []
    assert [one["whom"] for one in report["connections"]["reviews"]["policies"]] == [
        "the pipeline's AWS credentials",
        "the pipeline's Google account",
    ]


def test_missing_buckets_fail_and_stop_no_other_connection(stage):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    gone = stage.s3("gone")
    stage.add("absent", samples.TEXT_CONFIG, gone, gone, {"prefix": "a"}, {"prefix": "b"})
    gone.client.delete_bucket(Bucket=gone.name)
    report = examined(stage, code=1)

    listing = said(report, "absent", "source: list")
    assert (listing["state"], "create it" in listing["do"].lower()) == ("failed", True)
    assert said(report, "absent", "target: write")["state"] == "failed"
    assert set(states(report["connections"]["reviews"]["checks"]).values()) == {"ok"}


def test_wrong_token_fails_and_buckets_are_tried_all_the_same(stage, world):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    world.setenv("LABEL_STUDIO_API_KEY", "wrong-token-of-ours")
    done = stage.run("doctor", "--json", code=1)
    report = json.loads(done.stdout)

    assert states(report["general"])["label studio"] == "failed"
    assert states(report["connections"]["reviews"]["checks"]) == {
        "project": "skipped",
        "source: list": "ok",
        "source: read": "ok",
        "target: write": "ok",
        "target: read": "ok",
        "target: list": "ok",
        "target: delete": "ok",
    }
    assert "wrong-token-of-ours" not in done.stdout + done.stderr


def test_target_that_refuses_fails(stage, faulty_store):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    params = {"endpoint_url": faulty_store.url}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, target_params=params)
    report = examined(stage, code=1)

    written = said(report, "reviews", "target: write")
    assert (written["state"], "credentials" in written["do"]) == ("failed", True)
    assert said(report, "reviews", "source: read")["state"] == "ok"


def test_blob_that_does_not_open_fails(stage):
    source = stage.s3("in")
    put(source, samples.pictures(1))
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"use_blob_urls": True})
    stage.sync()
    source.delete(samples.pictures(1)[0][0])
    report = examined(stage, code=1)

    opened = said(report, "shapes", "blobs: open")
    assert (opened["state"], "does not open" in opened["says"]) == ("failed", True)
    assert "Signature" not in json.dumps(report)


def test_bucket_that_tells_its_queue_is_told_from_one_that_does_not(stage):
    import boto3

    source = stage.s3("in")
    put(source, samples.texts(1))
    queue = boto3.client("sqs").create_queue(QueueName=source.name)["QueueUrl"]
    stage.add(
        "reviews", samples.TEXT_CONFIG, source, None, {"notifications": queue, "prefix": "reviews"}
    )
    before = examined(stage)
    (setup,) = before["connections"]["reviews"]["setups"]
    *command, configuration = shlex.split(setup["commands"][1])
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=source.name, NotificationConfiguration=json.loads(configuration)
    )
    after = examined(stage)

    assert command[:3] == ["aws", "s3api", "put-bucket-notification-configuration"]
    assert said(before, "reviews", "queue")["state"] == "ok"
    assert said(before, "reviews", "notifications")["state"] == "warning"
    assert said(after, "reviews", "notifications")["state"] == "ok"


def test_personal_access_token_is_told_from_a_legacy_one(stage, world, personal_access_token):
    legacy = examined(stage)
    world.setenv("LABEL_STUDIO_API_KEY", personal_access_token)
    personal = examined(stage)

    assert "legacy token" in json.dumps(legacy["general"])
    assert "personal access token" in json.dumps(personal["general"])


def test_listing_is_for_people(stage):
    source = stage.s3("in")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, None)
    shown = stage.run("doctor").stdout

    assert "Connection reviews" in shown
    assert "✓ source: list" in shown
    assert '"s3:ListBucket"' in shown
    assert "\x1b" not in shown
