"""Bucket events: parse a notification, and decide whether it can mean work.

An event only names a key to probe in the bucket; nothing else in it is trusted. So a forged
message costs one probe at most.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

from ls_pipeline.domain.diff import WORK, KnownObject, State, diff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ls_pipeline.domain.objects import Filter, StoredObject

LONGEST_KEY = 1024
"""Bytes, on S3 and GCS alike."""

LARGEST_BODY = 64 * 2**10
"""Characters of a message; a notification has fewer, however often its key is escaped."""

WRAPPERS = 2
"""Envelopes around an S3 notification: EventBridge or S3, through SNS, into SQS."""


class Message(NamedTuple):
    """A message of a queue; ``receipt`` identifies it there.

    A longer body than `LARGEST_BODY` may be cut off anywhere after that.
    """

    body: str
    attributes: Mapping[str, str]
    receipt: str


class BucketEvent(NamedTuple):
    """Something may have happened at a key of a bucket."""

    bucket: str
    key: str
    version: str = ""
    """The version that was written; empty if the notification has none."""
    removed: bool = False
    """Whether the event is a removal, not a write."""


class ParsedMessage(NamedTuple):
    """The events of a message, and why it was rejected, in half a sentence."""

    events: tuple[BucketEvent, ...] = ()
    rejection: str = ""


def parse_message(message: Message) -> ParsedMessage:
    """Parse a message of S3 or GCS. Never raises, whatever it contains."""
    if "bucketId" in message.attributes:
        return _parse_gcs(message.attributes)
    if len(message.body) > LARGEST_BODY:
        return ParsedMessage(rejection="it is too large for a notification")
    return _parse_s3(message.body, WRAPPERS)


def needs_probe(event: BucketEvent, known: KnownObject | None, select: Filter) -> bool:
    """Return whether a probe of the bucket may find work.

    It can't if the ledger already agrees with the event, such as a late or repeated one, or if
    the ledger does not know the key and the filter rejects it.
    """
    if not event.key.startswith(select.folder):
        return False
    if known is None or known.state is State.REMOVED:
        return not event.removed and not select.rejected_by(event.key)
    return event.removed or not event.version or known.version != event.version


def differs_at(
    key: str, known: KnownObject | None, listed: Sequence[StoredObject], select: Filter
) -> bool:
    """Return whether a key needs work; ``listed`` is a listing that starts at the key."""
    objects = [item for item in listed[:1] if item.key == key]
    differences = diff([known] if known else [], objects, select)
    return any(difference.change in WORK for difference in differences)


def _parse_gcs(attributes: Mapping[str, str]) -> ParsedMessage:
    if "overwrittenByGeneration" in attributes:  # the new generation has an event of its own
        return ParsedMessage()
    event = _event(
        attributes.get("bucketId"),
        attributes.get("objectId"),
        attributes.get("objectGeneration"),
        attributes.get("eventType"),
    )
    return _parsed([event])


def _parse_s3(body: str, wrappers: int) -> ParsedMessage:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ParsedMessage(rejection="it is not JSON")
    match document:
        case {"Records": [*records]}:
            return _parsed([_parse_record(record) for record in records])
        case {"source": "aws.s3", "detail": detail}:
            return _parsed([_parse_eventbridge(detail, document.get("detail-type"))])
        case {"Type": "Notification", "Message": str(inner)} if wrappers:  # SNS
            return _parse_s3(inner, wrappers - 1)
        case {"Event": "s3:TestEvent"}:
            return ParsedMessage()
        case {"Type": "SubscriptionConfirmation"}:
            rejection = "it asks to confirm a subscription of SNS"
        case _:
            rejection = "it is not a notification of a bucket"
    return ParsedMessage(rejection=rejection)


def _parsed(found: Sequence[BucketEvent | None]) -> ParsedMessage:
    events = tuple(event for event in found if event)
    rejection = "" if len(events) == len(found) else "it has no key that an object can have"
    return ParsedMessage(events, rejection)


def _parse_record(record: Any) -> BucketEvent | None:
    match record:
        case {"s3": {"bucket": {"name": bucket}, "object": {"key": str(key)} as item}}:
            unquoted = unquote_plus(key, errors="surrogateescape")
            return _event(bucket, unquoted, item.get("eTag"), record.get("eventName"))
    return None


def _parse_eventbridge(detail: Any, event_name: Any) -> BucketEvent | None:
    """Parse the form of EventBridge, which does not quote keys."""
    match detail:
        case {"bucket": {"name": bucket}, "object": {"key": key} as item}:
            return _event(bucket, key, item.get("etag"), event_name)
    return None


def _event(bucket: Any, key: Any, version: Any, event_name: Any) -> BucketEvent | None:
    if not (_is_legal(bucket) and _is_legal(key)):
        return None
    removed = isinstance(event_name, str) and any(word in event_name for word in _REMOVALS)
    etag = version.strip('"') if _is_legal(version) and not removed else ""
    return BucketEvent(bucket, key, etag, removed)


_REMOVALS = (
    *("ObjectRemoved", "LifecycleExpiration", "Object Deleted"),
    *("OBJECT_DELETE", "OBJECT_ARCHIVE"),
)
"""Parts of the names of removal events: S3's, EventBridge's and GCS's."""


def _is_legal(text: object) -> bool:
    """Return whether a value can be a key, or the name of a bucket or a version."""
    try:
        return isinstance(text, str) and 0 < len(text.encode()) <= LONGEST_KEY
    except UnicodeEncodeError:  # it has half of a surrogate pair, or bytes that are not UTF-8
        return False
