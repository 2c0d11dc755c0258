"""What failures of the clouds' client libraries mean, in the same sentences for every cloud."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
    QueueAccessError,
    QueueError,
    QueueUnavailableError,
)


class Meaning(Enum):
    """What a failure means for the caller."""

    ACCESS = auto()
    """Credentials are missing, wrong, or lack a permission."""
    UNAVAILABLE = auto()
    """Try again later."""
    NO_BUCKET = auto()
    NOT_FOUND = auto()
    """What the request names does not exist: the object, else the bucket, or the queue."""
    CHANGED = auto()
    """The object is there in another version."""
    ARCHIVED = auto()
    OTHER_REGION = auto()
    SETTING = auto()
    """A setting is wrong, so that no request can succeed."""
    REFUSED = auto()
    """This request is refused; others may succeed."""


class Service(NamedTuple):
    """A service of a cloud, and what to do about its usual failures."""

    name: str
    access_hint: str
    """What to do if access is refused."""
    address: str
    """The setting that holds the service's address."""
    setting: str = "it"
    """What to correct if the client refuses a value of ours."""


class Failure(NamedTuple):
    """An exception of a client library in our terms; ``what`` follows the name of a resource."""

    meaning: Meaning
    what: str
    hint: str = ""


def no_answer(service: Service, reason: str) -> Failure:
    """Return the failure of a request that got no answer."""
    what = f"{service.name} does not answer ({reason})"
    return Failure(Meaning.UNAVAILABLE, what, f"Check the network, and {service.address}.")


def wrong_setting(service: Service, reason: str) -> Failure:
    """Return the failure of a request that the client refuses to send."""
    return Failure(Meaning.SETTING, reason, f"Correct {service.setting}.")


def wrong_address(service: Service, reason: str) -> Failure:
    """Return the failure of a request that has no valid address."""
    return Failure(Meaning.SETTING, reason, f"Correct {service.address}.")


def busy(service: Service, reason: str) -> Failure:
    """Return the failure of a request that the service can't answer now."""
    return Failure(Meaning.UNAVAILABLE, f"{service.name} can't answer now ({reason})", "Try again.")


def damaged(_service: Service, reason: str) -> Failure:
    """Return the failure of a request whose answer is incomplete or corrupt."""
    return Failure(Meaning.UNAVAILABLE, f"the answer is damaged ({reason})", "Try again.")


def access_refused(service: Service, reason: str, hint: str = "") -> Failure:
    """Return the failure of a request that the credentials may not make."""
    what = f"access is refused ({reason})"
    return Failure(Meaning.ACCESS, what, hint or service.access_hint)


def refused(service: Service, reason: str) -> Failure:
    """Return the failure of a request that the service refuses for a reason of its own."""
    return Failure(Meaning.REFUSED, f"{service.name} refused ({reason})")


def one_line(error: object) -> str:
    """Return an exception's message on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".")


_BUCKET_ERRORS = {
    Meaning.ACCESS: BucketAccessError,
    Meaning.UNAVAILABLE: BucketUnavailableError,
}
_QUEUE_ERRORS = {
    Meaning.ACCESS: QueueAccessError,
    Meaning.UNAVAILABLE: QueueUnavailableError,
}


def bucket_error(uri: str, failure: Failure) -> BucketError:
    """Return our error about a bucket, or about an object if ``uri`` has a key."""
    meaning, what, hint = failure
    key = uri.split("/", 3)[3]
    if meaning is Meaning.NO_BUCKET or (meaning is Meaning.NOT_FOUND and not key):
        return BucketNotFoundError(uri.removesuffix(key))
    if meaning is Meaning.NOT_FOUND:
        return ObjectNotFoundError(uri)
    if meaning is Meaning.CHANGED:
        return ObjectChangedError(uri)
    if meaning in {Meaning.ARCHIVED, Meaning.REFUSED} and key:
        return ObjectRefusedError(uri, f"{what}.", hint=hint)
    return _BUCKET_ERRORS.get(meaning, BucketError)(uri, f"{what}.", hint=hint)


def queue_error(address: str, failure: Failure) -> QueueError:
    """Return our error about a queue."""
    meaning, what, hint = failure
    if meaning is Meaning.NOT_FOUND:
        what, hint = "the queue does not exist", "Create it, or correct its address."
    return _QUEUE_ERRORS.get(meaning, QueueError)(address, f"{what}.", hint=hint)
