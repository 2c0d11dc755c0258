"""What a bucket is to be set up with, and what is amiss."""

import json
import shlex

import pytest

from ls_pipeline.domain.notification_setup import (
    CREATED,
    GCS_EVENTS,
    REMOVED,
    GCSNotification,
    check_gcs_notifications,
    check_s3_notifications,
    gcs_setup_command,
    s3_setup_commands,
)

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/labels"
ARN = "arn:aws:sqs:eu-west-1:123456789012:labels"
TOPIC = "projects/p/topics/labels"


def configuration(*events, arn=ARN, **rules):
    told = {"QueueArn": arn, "Events": list(events)}
    found = [{"Name": name, "Value": value} for name, value in rules.items()]
    return {"QueueConfigurations": [{**told, "Filter": {"Key": {"FilterRules": found}}}]}


@pytest.mark.parametrize("folder", ["", "in/", "a b/naïve/"])
def test_bucket_that_was_set_up_as_said_tells_the_queue(folder):
    let, have = map(shlex.split, s3_setup_commands("bucket", folder, QUEUE, ARN))
    policy = json.loads(json.loads(let[-1])["Policy"])["Statement"][0]

    assert check_s3_notifications(json.loads(have[-1]), ARN, folder).state == "ok"
    assert (let[4], have[4]) == (QUEUE, "bucket")
    assert policy["Condition"]["ArnEquals"] == {"aws:SourceArn": "arn:aws:s3:::bucket"}
    assert (policy["Action"], policy["Resource"]) == ("sqs:SendMessage", ARN)


@pytest.mark.parametrize(
    ("configuration", "state", "says"),
    [
        ({}, "warning", "does not tell the queue of its changes there"),
        (configuration(CREATED, REMOVED), "ok", "tells the queue"),
        (configuration(CREATED, REMOVED, Prefix="in"), "ok", "tells the queue"),
        (configuration(CREATED), "warning", "does not tell the queue of all s3:ObjectRemoved"),
        (configuration(CREATED, REMOVED, arn=f"{ARN}-2"), "warning", "its changes there"),
        (configuration(CREATED, REMOVED, prefix="out/"), "warning", "its changes there"),
        (configuration(CREATED, REMOVED, prefix="in/deep/"), "warning", "its changes there"),
        (configuration(CREATED, REMOVED, suffix=".json"), "warning", "its changes there"),
        ({"EventBridgeConfiguration": {}}, "skipped", "can't be seen"),
        ({"TopicConfigurations": [{"TopicArn": "arn"}]}, "skipped", "can't be seen"),
    ],
)
def test_what_is_amiss_on_s3_is_said(configuration, state, says):
    told = check_s3_notifications(configuration, ARN, "in/")

    assert (told.state, says in told.message) == (state, True)


@pytest.mark.parametrize(
    ("notifications", "state"),
    [
        ([], "warning"),
        ([GCSNotification(TOPIC)], "ok"),
        ([GCSNotification(TOPIC, GCS_EVENTS, "in/")], "ok"),
        ([GCSNotification(TOPIC, (one,)) for one in GCS_EVENTS], "ok"),
        ([GCSNotification(TOPIC, ("OBJECT_FINALIZE",))], "warning"),
        ([GCSNotification(f"{TOPIC}-2")], "warning"),
        ([GCSNotification(TOPIC, (), "in/deep/")], "warning"),
    ],
)
def test_what_is_amiss_on_gcs_is_said(notifications, state):
    assert check_gcs_notifications(notifications, TOPIC, "in/").state == state


def test_command_of_gcs_asks_the_subscription_for_its_topic():
    assert gcs_setup_command("bucket", "a b/", "projects/p/subscriptions/s") == (
        "gcloud storage buckets notifications create gs://bucket "
        "--event-types=OBJECT_FINALIZE,OBJECT_DELETE,OBJECT_ARCHIVE --payload-format=none "
        "'--object-prefix=a b/' "
        '--topic="$(gcloud pubsub subscriptions describe projects/p/subscriptions/s '
        "'--format=value(topic)')\""
    )
