"""How to make a bucket notify a queue of its changes, and what is missing if it doesn't."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

CREATED, REMOVED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*"
EXPIRED = "s3:LifecycleExpiration:*"
"""The event of a deletion by a lifecycle rule; stores other than S3 may not know it."""

GCS_EVENTS = ("OBJECT_FINALIZE", "OBJECT_DELETE")
ARCHIVED = "OBJECT_ARCHIVE"
"""The event of a deletion in a bucket with versioning."""


class NotificationCheck(NamedTuple):
    """Whether a bucket notifies a queue: yes, not of everything, or unknown."""

    state: Literal["ok", "warning", "skipped"]
    message: str


class GCSNotification(NamedTuple):
    """A notification of a GCS bucket; no events means all, an empty prefix the whole bucket."""

    topic: str
    events: tuple[str, ...] = ()
    prefix: str = ""


def s3_setup_commands(bucket: str, folder: str, queue: str, arn: str) -> list[str]:
    """Return the commands that allow a bucket to notify a queue, and make it do so.

    The second replaces all other notifications of the bucket.
    """
    notification: dict[str, Any] = {
        "Id": "ls_pipeline",
        "QueueArn": arn,
        "Events": [CREATED, REMOVED, EXPIRED],
    }
    if folder:
        rule = {"Name": "prefix", "Value": quote_plus(folder, safe="/")}
        notification["Filter"] = {"Key": {"FilterRules": [rule]}}
    policy = json.dumps({"Policy": json.dumps(_queue_policy(bucket, arn))})
    configuration = json.dumps({"QueueConfigurations": [notification]})
    allow = ["aws", "sqs", "set-queue-attributes", "--queue-url", queue, "--attributes", policy]
    notify = ["aws", "s3api", "put-bucket-notification-configuration", "--bucket", bucket]
    notify += ["--notification-configuration", configuration]
    return [shlex.join(allow), shlex.join(notify)]


def _queue_policy(bucket: str, arn: str) -> dict[str, Any]:
    partition = arn.split(":")[1]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def gcs_setup_command(bucket: str, folder: str, subscription: str) -> str:
    """Return the command that makes a bucket notify the topic of a subscription."""
    words = ["gcloud", "storage", "buckets", "notifications", "create", f"gs://{bucket}"]
    words += [f"--event-types={','.join((*GCS_EVENTS, ARCHIVED))}", "--payload-format=none"]
    words += [f"--object-prefix={folder}"] if folder else []
    describe = ["gcloud", "pubsub", "subscriptions", "describe", subscription]
    topic = f'"$({shlex.join([*describe, "--format=value(topic)"])})"'
    return f"{shlex.join(words)} --topic={topic}"


def check_s3_notifications(
    configuration: Mapping[str, Any], arn: str, folder: str
) -> NotificationCheck:
    """Check a bucket's notification configuration for a queue and a folder."""
    covering = [
        notification.get("Events", ())
        for notification in configuration.get("QueueConfigurations", ())
        if notification.get("QueueArn") == arn and _covers(notification, folder)
    ]
    if not covering and (
        "EventBridgeConfiguration" in configuration or configuration.get("TopicConfigurations")
    ):
        return NotificationCheck(
            "skipped",
            "The bucket notifies SNS or EventBridge; whether they notify the queue is unknown.",
        )
    return _check("the queue", covering, (CREATED, REMOVED))


def _covers(notification: Mapping[str, Any], folder: str) -> bool:
    rules = notification.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    wanted = {"prefix": quote_plus(folder, safe="/"), "suffix": ""}
    return all(
        wanted.get(rule["Name"].lower(), "").startswith(rule.get("Value", "")) for rule in rules
    )


def check_gcs_notifications(
    notifications: Sequence[GCSNotification], topic: str, folder: str
) -> NotificationCheck:
    """Check a bucket's notifications for a topic and a folder."""
    covering = [
        notification.events or GCS_EVENTS
        for notification in notifications
        if notification.topic == topic and folder.startswith(notification.prefix)
    ]
    return _check(topic, covering, GCS_EVENTS)


def _check(
    receiver: str, covering: Sequence[Collection[str]], required: Sequence[str]
) -> NotificationCheck:
    """Check the events of the notifications that cover a folder."""
    events = {event for notified in covering for event in notified}
    missing = " and ".join(event for event in required if event not in events)
    if not missing:
        return NotificationCheck("ok", f"The bucket notifies {receiver} of its changes.")
    if not covering:
        return NotificationCheck(
            "warning", f"The bucket does not notify {receiver} of changes in the folder."
        )
    return NotificationCheck("warning", f"The bucket does not notify {receiver} of {missing}.")
