"""The commands that set up notifications, and the check of what is missing."""

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
    filter_rules = [{"Name": name, "Value": value} for name, value in rules.items()]
    queue = {"QueueArn": arn, "Events": list(events)}
    return {"QueueConfigurations": [{**queue, "Filter": {"Key": {"FilterRules": filter_rules}}}]}


@pytest.mark.parametrize("folder", ["", "in/", "a b/naïve/"])
def test_bucket_notifies_the_queue_after_the_commands(folder):
    allow, notify = map(shlex.split, s3_setup_commands("bucket", folder, QUEUE, ARN))
    policy = json.loads(json.loads(allow[-1])["Policy"])["Statement"][0]

    assert check_s3_notifications(json.loads(notify[-1]), ARN, folder).state == "ok"
    assert (allow[4], notify[4]) == (QUEUE, "bucket")
    assert policy["Condition"]["ArnEquals"] == {"aws:SourceArn": "arn:aws:s3:::bucket"}
    assert (policy["Action"], policy["Resource"]) == ("sqs:SendMessage", ARN)


@pytest.mark.parametrize(
    ("configuration", "state", "message"),
    [
        ({}, "warning", "does not notify the queue of changes in the folder"),
        (configuration(CREATED, REMOVED), "ok", "notifies the queue"),
        (configuration(CREATED, REMOVED, Prefix="in"), "ok", "notifies the queue"),
        (configuration(CREATED), "warning", "does not notify the queue of s3:ObjectRemoved"),
        (configuration(CREATED, REMOVED, arn=f"{ARN}-2"), "warning", "of changes in the folder"),
        (configuration(CREATED, REMOVED, prefix="out/"), "warning", "of changes in the folder"),
        (configuration(CREATED, REMOVED, prefix="in/deep/"), "warning", "of changes in the folder"),
        (configuration(CREATED, REMOVED, suffix=".json"), "warning", "of changes in the folder"),
        ({"EventBridgeConfiguration": {}}, "skipped", "is unknown"),
        ({"TopicConfigurations": [{"TopicArn": "arn"}]}, "skipped", "is unknown"),
    ],
)
def test_missing_s3_notifications_are_named(configuration, state, message):
    check = check_s3_notifications(configuration, ARN, "in/")

    assert (check.state, message in check.message) == (state, True)


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
def test_missing_gcs_notifications_are_a_warning(notifications, state):
    assert check_gcs_notifications(notifications, TOPIC, "in/").state == state


def test_command_of_gcs_asks_the_subscription_for_its_topic():
    assert gcs_setup_command("bucket", "a b/", "projects/p/subscriptions/s") == (
        "gcloud storage buckets notifications create gs://bucket "
        "--event-types=OBJECT_FINALIZE,OBJECT_DELETE,OBJECT_ARCHIVE --payload-format=none "
        "'--object-prefix=a b/' "
        '--topic="$(gcloud pubsub subscriptions describe projects/p/subscriptions/s '
        "'--format=value(topic)')\""
    )
