"""What a bucket's notification events at: a key at which to look.

Nothing else of it is believed: whatever somebody puts into a queue, at worst it names a key at
which nothing is to be found.
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

WRAPPERS = 2
"""Envelopes around a notification of S3: EventBridge or S3, through SNS, into SQS."""


class Message(NamedTuple):
    """What came through a queue; ``receipt`` is what the queue knows it by."""

    body: str
    attributes: Mapping[str, str]
    receipt: str


class BucketEvent(NamedTuple):
    """Something may have happened at a key of a bucket."""

    bucket: str
    key: str
    version: str = ""
    """Of the object that was written; empty where the notification does not tell."""
    removed: bool = False
    """Whether an object is said to be removed, and not to have been written."""


class ParsedMessage(NamedTuple):
    """What a message says: events, or in half a sentence why it is none."""

    events: tuple[BucketEvent, ...] = ()
    rejection: str = ""


def parse_message(message: Message) -> ParsedMessage:
    """Give what a message events at. Whatever it holds, nothing is raised."""
    if "bucketId" in message.attributes:
        return _parse_gcs(message.attributes)
    return _parse_s3(message.body, WRAPPERS)


def needs_probe(event: BucketEvent, known: KnownObject | None, select: Filter) -> bool:
    """Tell whether a look at the bucket may find something to do.

    It can't where the ledger is as the event says, as after one that came late or twice, nor
    at a key that the ledger does not know and the filter leaves out.
    """
    is_there = known is not None and known.state is not State.REMOVED
    if not event.key.startswith(select.folder):
        return False
    if not is_there:
        return not event.removed and not select.rejected_by(event.key)
    return event.removed or not event.version or known is None or known.version != event.version


def differs_at(
    key: str, known: KnownObject | None, listed: Sequence[StoredObject], select: Filter
) -> bool:
    """Tell whether there is something to do at a key; ``listed`` begin with it, the key first."""
    there = [one for one in listed[:1] if one.key == key]
    found = diff([known] if known else [], there, select)
    return any(one.change in WORK for one in found)


def _parse_gcs(attributes: Mapping[str, str]) -> ParsedMessage:
    if "overwrittenByGeneration" in attributes:  # of the version before: the new one is told, too
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
            return _parsed([_parse_record(one) for one in records])
        case {"source": "aws.s3", "detail": detail}:  # EventBridge
            return _parsed([_parse_eventbridge(detail, document.get("detail-type"))])
        case {"Type": "Notification", "Message": str(inner)} if wrappers:  # SNS
            return _parse_s3(inner, wrappers - 1)
        case {"Event": "s3:TestEvent"}:
            return ParsedMessage()
        case {"Type": "SubscriptionConfirmation"}:
            what = "it asks to confirm a subscription of SNS"
        case _:
            what = "it is no notification of a bucket"
    return ParsedMessage(rejection=what)


def _parsed(found: Sequence[BucketEvent | None]) -> ParsedMessage:
    events = tuple(one for one in found if one)
    rejection = "" if len(events) == len(found) else "it names no key that an object can have"
    return ParsedMessage(events, rejection)


def _parse_record(record: Any) -> BucketEvent | None:
    match record:
        case {"s3": {"bucket": {"name": bucket}, "object": {"key": str(key)} as told}}:
            plain = unquote_plus(key, errors="surrogateescape")
            return _event(bucket, plain, told.get("eTag"), record.get("eventName"))
    return None


def _parse_eventbridge(detail: Any, event_name: Any) -> BucketEvent | None:
    """Read EventBridge's form, in which keys are as they are."""
    match detail:
        case {"bucket": {"name": bucket}, "object": {"key": key} as told}:
            return _event(bucket, key, told.get("etag"), event_name)
    return None


def _event(bucket: Any, key: Any, version: Any, event_name: Any) -> BucketEvent | None:
    if not (isinstance(bucket, str) and isinstance(key, str) and _is_legal(key)):
        return None
    removed = isinstance(event_name, str) and any(word in event_name for word in _GONE)
    told = version.strip('"') if isinstance(version, str) and not removed else ""
    return BucketEvent(bucket, key, told, removed)


_GONE = (
    *("ObjectRemoved", "LifecycleExpiration", "Object Deleted"),
    *("OBJECT_DELETE", "OBJECT_ARCHIVE"),
)
"""Of the names of events: S3's own, EventBridge's, and GCS's."""


def _is_legal(key: str) -> bool:
    try:
        return 0 < len(key.encode()) <= LONGEST_KEY
    except UnicodeEncodeError:  # half a character, or bytes that are none
        return False
