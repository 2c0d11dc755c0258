"""What a bucket's notification hints at: a key at which to look.

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


class Hint(NamedTuple):
    """Something may have happened at a key of a bucket."""

    bucket: str
    key: str
    version: str = ""
    """Of the object that was written; empty where the notification does not tell."""
    gone: bool = False
    """Whether an object is said to be gone, and not to have been written."""


class Heard(NamedTuple):
    """What a message says: hints, or in half a sentence why it is none."""

    hints: tuple[Hint, ...] = ()
    rejection: str = ""


def heard(message: Message) -> Heard:
    """Give what a message hints at. Whatever it holds, nothing is raised."""
    if "bucketId" in message.attributes:
        return _of_gcs(message.attributes)
    return _of_s3(message.body, WRAPPERS)


def is_worth_a_look(hint: Hint, known: KnownObject | None, select: Filter) -> bool:
    """Tell whether a look at the bucket may find something to do.

    It can't where the ledger is as the hint says, as after one that came late or twice, nor
    at a key that the ledger does not know and the filter leaves out.
    """
    is_there = known is not None and known.state is not State.REMOVED
    if not hint.key.startswith(select.folder):
        return False
    if not is_there:
        return not hint.gone and not select.rejects(hint.key)
    return hint.gone or not hint.version or known is None or known.version != hint.version


def differs_at(
    key: str, known: KnownObject | None, listed: Sequence[StoredObject], select: Filter
) -> bool:
    """Tell whether there is something to do at a key; ``listed`` begin with it, the key first."""
    there = [one for one in listed[:1] if one.key == key]
    found = diff([known] if known else [], there, select)
    return any(one.change in WORK for one in found)


def _of_gcs(attributes: Mapping[str, str]) -> Heard:
    if "overwrittenByGeneration" in attributes:  # of the version before: the new one is told, too
        return Heard()
    hint = _hint(
        attributes.get("bucketId"),
        attributes.get("objectId"),
        attributes.get("objectGeneration"),
        attributes.get("eventType"),
    )
    return _of_hints([hint])


def _of_s3(body: str, wrappers: int) -> Heard:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Heard(rejection="it is not JSON")
    match document:
        case {"Records": [*records]}:
            return _of_hints([_of_record(one) for one in records])
        case {"source": "aws.s3", "detail": detail}:  # EventBridge
            return _of_hints([_of_detail(detail, document.get("detail-type"))])
        case {"Type": "Notification", "Message": str(inner)} if wrappers:  # SNS
            return _of_s3(inner, wrappers - 1)
        case {"Event": "s3:TestEvent"}:
            return Heard()
        case {"Type": "SubscriptionConfirmation"}:
            what = "it asks to confirm a subscription of SNS"
        case _:
            what = "it is no notification of a bucket"
    return Heard(rejection=what)


def _of_hints(found: Sequence[Hint | None]) -> Heard:
    hints = tuple(one for one in found if one)
    rejection = "" if len(hints) == len(found) else "it names no key that an object can have"
    return Heard(hints, rejection)


def _of_record(record: Any) -> Hint | None:
    match record:
        case {"s3": {"bucket": {"name": bucket}, "object": {"key": str(key)} as told}}:
            plain = unquote_plus(key, errors="surrogateescape")
            return _hint(bucket, plain, told.get("eTag"), record.get("eventName"))
    return None


def _of_detail(detail: Any, event: Any) -> Hint | None:
    """Read EventBridge's form, in which keys are as they are."""
    match detail:
        case {"bucket": {"name": bucket}, "object": {"key": key} as told}:
            return _hint(bucket, key, told.get("etag"), event)
    return None


def _hint(bucket: Any, key: Any, version: Any, event: Any) -> Hint | None:
    if not (isinstance(bucket, str) and isinstance(key, str) and _is_legal(key)):
        return None
    gone = isinstance(event, str) and any(word in event for word in _GONE)
    told = version.strip('"') if isinstance(version, str) and not gone else ""
    return Hint(bucket, key, told, gone)


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
