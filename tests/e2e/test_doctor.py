"""`ls-pipeline doctor` on the real servers: what it reports, and that it leaves nothing behind."""

import json
import shlex

import pytest

from ls_pipeline.cli.demo import samples
from tests.e2e.conftest import keys

pytestmark = pytest.mark.server


def put(bucket, objects):
    for key, body in objects:
        bucket.put(key, body, "application/octet-stream")


def doctor(stage, *names, code=0):
    return json.loads(stage.run("doctor", *names, "--json", code=code).stdout)


def states(checks):
    return {check["check"]: check["state"] for check in checks}


def find_check(report, connection, name):
    checks = report["connections"][connection]["checks"]
    (check,) = (check for check in checks if check["check"] == name)
    return check


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_blob_connection_passes_before_and_after_a_run(stage, cloud):
    source, target = getattr(stage, cloud)("in"), getattr(stage, cloud)("out")
    put(source, samples.pictures(1))
    stage.add("shapes", samples.PICTURE_CONFIG, source, target, {"use_blob_urls": True})
    before = doctor(stage)
    stage.sync()
    after = doctor(stage)

    assert set(states(before["general"]).values()) == {"ok"}
    first, last = (states(report["connections"]["shapes"]["checks"]) for report in (before, after))
    blobs = ("blobs: open", "blobs: CORS")
    assert {check for check, state in first.items() if state != "ok"} == set(blobs)
    assert [first[check] for check in blobs] == ["skipped", "skipped"]
    assert set(last.values()) == {"ok"}, after
    assert before["ok"]
    assert [key for key in keys(target) if "doctor" in key] == []


def test_json_tasks_are_checked_without_creating_anything(stage):
    source, target = stage.s3("in"), stage.gcs("out")
    put(source, samples.texts(2))
    stage.add("reviews", samples.TEXT_CONFIG, source, target, {"prefix": "reviews"})
    report = doctor(stage, "reviews")

    assert "2 of 2 objects" in find_check(report, "reviews", "source: list")["says"]
    assert "has 1 task" in find_check(report, "reviews", "source: read")["says"]
    assert "will create" in find_check(report, "reviews", "project")["says"]
    assert keys(target) == []
    assert [policy["whom"] for policy in report["connections"]["reviews"]["policies"]] == [
        "the pipeline's AWS credentials",
        "the pipeline's Google account",
    ]


def test_missing_buckets_fail_and_stop_no_other_connection(stage):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    missing = stage.s3("gone")
    stage.add("absent", samples.TEXT_CONFIG, missing, missing, {"prefix": "a"}, {"prefix": "b"})
    missing.client.delete_bucket(Bucket=missing.name)
    report = doctor(stage, code=1)

    listing = find_check(report, "absent", "source: list")
    assert (listing["state"], "create it" in listing["do"].lower()) == ("failed", True)
    assert find_check(report, "absent", "target: write")["state"] == "failed"
    assert set(states(report["connections"]["reviews"]["checks"]).values()) == {"ok"}


def test_wrong_token_fails_and_buckets_are_still_checked(stage, live_environment):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    live_environment.setenv("LABEL_STUDIO_API_KEY", "wrong-token")
    result = stage.run("doctor", "--json", code=1)
    report = json.loads(result.stdout)

    assert states(report["general"])["label studio"] == "failed"
    assert states(report["connections"]["reviews"]["checks"]) == {
        "project": "skipped",
        "source: list": "ok",
        "source: read": "ok",
        "target: write": "ok",
        "target: read": "ok",
        "target: list": "ok",
        "target: conditions": "ok",
        "target: delete": "ok",
    }
    assert "wrong-token" not in result.stdout + result.stderr


def test_target_that_refuses_fails(stage, faulty_store):
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(1))
    params = {"endpoint_url": faulty_store.url}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, target_params=params)
    report = doctor(stage, code=1)

    check = find_check(report, "reviews", "target: write")
    assert (check["state"], "credentials" in check["do"]) == ("failed", True)
    assert find_check(report, "reviews", "source: read")["state"] == "ok"


def test_blob_that_does_not_open_fails(stage):
    source = stage.s3("in")
    put(source, samples.pictures(1))
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"use_blob_urls": True})
    stage.sync()
    source.delete(samples.pictures(1)[0][0])
    report = doctor(stage, code=1)

    check = find_check(report, "shapes", "blobs: open")
    assert (check["state"], "does not open" in check["says"]) == ("failed", True)
    assert "Signature" not in json.dumps(report)


def test_missing_bucket_notifications_are_a_warning(stage):
    import boto3

    source = stage.s3("in")
    put(source, samples.texts(1))
    queue = boto3.client("sqs").create_queue(QueueName=source.name)["QueueUrl"]
    stage.add(
        "reviews", samples.TEXT_CONFIG, source, None, {"notifications": queue, "prefix": "reviews"}
    )
    before = doctor(stage)
    (setup,) = before["connections"]["reviews"]["setups"]
    *command, configuration = shlex.split(setup["commands"][1])
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=source.name, NotificationConfiguration=json.loads(configuration)
    )
    after = doctor(stage)

    assert command[:3] == ["aws", "s3api", "put-bucket-notification-configuration"]
    assert find_check(before, "reviews", "queue")["state"] == "ok"
    assert find_check(before, "reviews", "notifications")["state"] == "warning"
    assert find_check(after, "reviews", "notifications")["state"] == "ok"


def test_personal_and_legacy_tokens_are_distinguished(
    stage, live_environment, personal_access_token
):
    legacy = doctor(stage)
    live_environment.setenv("LABEL_STUDIO_API_KEY", personal_access_token)
    personal = doctor(stage)

    assert "legacy token" in json.dumps(legacy["general"])
    assert "personal access token" in json.dumps(personal["general"])


def test_report_without_json_is_plain_text(stage):
    source = stage.s3("in")
    put(source, samples.texts(1))
    stage.add("reviews", samples.TEXT_CONFIG, source, None)
    report = stage.run("doctor").stdout

    assert "Connection reviews" in report
    assert "✓ source: list" in report
    assert '"s3:ListBucket"' in report
    assert "\x1b" not in report
