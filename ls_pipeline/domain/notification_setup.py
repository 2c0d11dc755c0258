"""How a bucket is set up to tell a queue of its changes, and what is amiss where it is not."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CREATED, REMOVED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*"
EXPIRED = "s3:LifecycleExpiration:*"
"""Of what a rule of the bucket deletes; other stores may not know it."""

GCS_EVENTS = ("OBJECT_FINALIZE", "OBJECT_DELETE")
ARCHIVED = "OBJECT_ARCHIVE"
"""What a deletion is in a bucket with versions."""


class NotificationCheck(NamedTuple):
    """Whether a bucket tells a queue: it does, it does not quite, or that can't be seen."""

    state: Literal["ok", "warning", "skipped"]
    message: str


class GCSNotification(NamedTuple):
    """One thing that a GCS bucket tells a topic; no events are all, no prefix is the bucket."""

    topic: str
    events: tuple[str, ...] = ()
    prefix: str = ""


def s3_setup_commands(bucket: str, folder: str, queue: str, arn: str) -> list[str]:
    """Give the commands after which a bucket tells a queue: let it, then have it.

    The second replaces whatever else the bucket notified.
    """
    told: dict[str, Any] = {
        "Id": "ls_pipeline",
        "QueueArn": arn,
        "Events": [CREATED, REMOVED, EXPIRED],
    }
    if folder:
        rule = {"Name": "prefix", "Value": quote_plus(folder, safe="/")}
        told["Filter"] = {"Key": {"FilterRules": [rule]}}
    policy = json.dumps({"Policy": json.dumps(_queue_policy(bucket, arn))})
    configuration = json.dumps({"QueueConfigurations": [told]})
    let = ["aws", "sqs", "set-queue-attributes", "--queue-url", queue, "--attributes", policy]
    have = ["aws", "s3api", "put-bucket-notification-configuration", "--bucket", bucket]
    return [shlex.join(let), shlex.join([*have, "--notification-configuration", configuration])]


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
    """Give the command after which a bucket tells the topic of a subscription."""
    words = ["gcloud", "storage", "buckets", "notifications", "create", f"gs://{bucket}"]
    words += [f"--event-types={','.join((*GCS_EVENTS, ARCHIVED))}", "--payload-format=none"]
    words += [f"--object-prefix={folder}"] if folder else []
    describe = ["gcloud", "pubsub", "subscriptions", "describe", subscription]
    topic = f'"$({shlex.join([*describe, "--format=value(topic)"])})"'
    return f"{shlex.join(words)} --topic={topic}"


def check_s3_notifications(
    configuration: Mapping[str, Any], arn: str, folder: str
) -> NotificationCheck:
    """Read in a bucket's notification configuration whether it tells a queue of a folder."""
    mine = [
        one
        for one in configuration.get("QueueConfigurations", ())
        if one.get("QueueArn") == arn and _covers(one, folder)
    ]
    events = {event for one in mine for event in one.get("Events", ())}
    if CREATED in events and REMOVED in events:
        return NotificationCheck("ok", "The bucket tells the queue of its changes.")
    if mine:
        missing = " and ".join(one for one in (CREATED, REMOVED) if one not in events)
        return NotificationCheck("warning", f"The bucket does not tell the queue of all {missing}.")
    if "EventBridgeConfiguration" in configuration or configuration.get("TopicConfigurations"):
        what = "The bucket tells SNS or EventBridge; whether that leads to the queue can't be seen."
        return NotificationCheck("skipped", what)
    return NotificationCheck("warning", "The bucket does not tell the queue of its changes there.")


def _covers(one: Mapping[str, Any], folder: str) -> bool:
    rules = one.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    wanted = {"prefix": quote_plus(folder, safe="/"), "suffix": ""}
    return all(
        wanted.get(rule["Name"].lower(), "").startswith(rule.get("Value", "")) for rule in rules
    )


def check_gcs_notifications(
    notifications: Sequence[GCSNotification], topic: str, folder: str
) -> NotificationCheck:
    """Read in a bucket's notifications whether it tells a topic of a folder."""
    mine = [one for one in notifications if one.topic == topic and folder.startswith(one.prefix)]
    events = {event for one in mine for event in (one.events or GCS_EVENTS)}
    if events.issuperset(GCS_EVENTS):
        return NotificationCheck("ok", f"The bucket tells {topic} of its changes.")
    if mine:
        missing = " and ".join(one for one in GCS_EVENTS if one not in events)
        return NotificationCheck("warning", f"The bucket does not tell {topic} of {missing}.")
    return NotificationCheck("warning", f"The bucket does not tell {topic} of its changes there.")
