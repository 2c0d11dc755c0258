"""What failures of the clouds' client libraries mean, in the same sentences for every cloud."""

from __future__ import annotations

import os
import re
import ssl
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    InvalidVariableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
    QueueAccessError,
    QueueError,
    QueueUnavailableError,
)
from ls_pipeline.domain.text import without_login
from ls_pipeline.resources.environment import DEFAULT_URL, check_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_QUERY = re.compile(r"""(?<=[^\s"'?])\?[^\s"'?=]*=[^\s"')]*""")
"""Matches in linear time: a server may have written the text."""


_PROTECTION = re.compile(
    r"protected by object lock|retention policy|object retention|under active \S+ hold|"
    r"WORM protected|is immutable"
)
"""What stores say of an object that nobody may replace or delete now."""


LONGEST_REASON = 500


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
    SETTING = auto()
    """A setting is wrong, or the store is full, so that no such request can succeed."""
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
    certificates: str = "AWS_CA_BUNDLE"
    """The variable that names a file of certificates to trust."""


class Failure(NamedTuple):
    """An exception of a client library in our terms; ``what`` follows the name of a resource.

    In the constants and tables, ``what`` and ``hint`` are templates, which `of` fills in.
    """

    meaning: Meaning
    what: str
    hint: str = ""

    def of(self, service: Service, reason: str, **details: str) -> Failure:
        """Return the failure of a request to a service."""
        what, hint = (
            text.format(service=service, reason=reason, **details)
            for text in (self.what, self.hint)
        )
        return Failure(self.meaning, what, hint)


NO_ANSWER = Failure(
    Meaning.UNAVAILABLE,
    "{service.name} does not answer ({reason})",
    "Check the network, and {service.address}.",
)
BAD_PROXY = NO_ANSWER._replace(
    hint="Correct HTTP_PROXY or HTTPS_PROXY, or add the host to NO_PROXY if no proxy is needed."
)
NO_TLS = NO_ANSWER._replace(hint="It does not speak https: write http:// in {service.address}.")
CERTIFICATE_HINTS = {
    "ostname": "Set {service.address} to a name that its certificate has.",
    "IP address mismatch": "Set {service.address} to a name that its certificate has.",
    "certificate has expired": "Have its certificate renewed, or set this machine's clock.",
    "": "Set {service.certificates} to a file with the certificate of the authority that signed "
    "it.",
}
"""What a client says of a certificate → what to do; the last one if it says something else."""
UNTRUSTED = Failure(
    Meaning.UNAVAILABLE, "{service.name} has a certificate that is not trusted ({reason})"
)
BAD_CERTIFICATES = Failure(
    Meaning.SETTING,
    "the certificates to trust can't be read ({reason})",
    "Set {service.certificates} to a file of certificates as PEM.",
)
BUSY = Failure(Meaning.UNAVAILABLE, "{service.name} can't answer now ({reason})", "Try again.")
DAMAGED = Failure(Meaning.UNAVAILABLE, "the answer is damaged ({reason})", "Try again.")
NO_ACCESS = Failure(Meaning.ACCESS, "access is refused ({reason})", "{service.access_hint}")
WRONG_SETTING = Failure(Meaning.SETTING, "{reason}", "Correct {service.setting}.")
WRONG_ADDRESS = Failure(Meaning.SETTING, "{reason}", "Correct {service.address}.")
REFUSED = Failure(Meaning.REFUSED, "{service.name} refused ({reason})")
FULL = Failure(
    Meaning.SETTING, "{service.name} refused ({reason})", "Free space there, or raise its quota."
)
PROTECTED = Failure(
    Meaning.ACCESS,
    "{service.name} keeps the object as it is ({reason})",
    "Lift its hold or its retention, or use a target without: files in a target are replaced.",
)
NOT_FOUND = REFUSED._replace(meaning=Meaning.NOT_FOUND)
CHANGED = REFUSED._replace(meaning=Meaning.CHANGED)


def certificate_hint(reason: str) -> str:
    """Return what to do if a certificate is not trusted for a reason; a template of `Failure`."""
    return next(hint for words, hint in CERTIFICATE_HINTS.items() if words in reason)


def of_connection(failure: Failure, error: BaseException) -> Failure:
    """Return what exactly is wrong with a connection, in place of `NO_ANSWER`."""
    if failure is not NO_ANSWER:
        return failure
    reason = repr(error.args)
    if "WRONG_VERSION_NUMBER" in reason:
        return NO_TLS
    if re.search("Is a directory|No such file|NO_CERTIFICATE", reason):
        return BAD_CERTIFICATES
    if "CERTIFICATE_VERIFY_FAILED" in reason or re.search("hostname .* doesn't match", reason):
        return UNTRUSTED._replace(hint=certificate_hint(reason))
    return NO_ANSWER


def unreadable(variable: str) -> Failure | None:
    """Return the failure of a variable whose certificates can't be read; None if it is not set.

    Some clients take a folder of certificates. Others fail at the first request over https.
    """
    path = os.environ.get(variable)
    if not path or Path(path).is_dir():
        return None
    try:
        _read_certificates(path, Path(path).stat().st_mtime_ns)
    except ssl.SSLError:
        what = f"{variable} names a file without certificates that can be read"
    except OSError:
        what = f"{variable} names a file that can't be read"
    else:
        return None
    hint = "Correct it. It is a file of certificates as PEM, and ~ is not expanded there."
    return Failure(Meaning.SETTING, what, hint)


@lru_cache(maxsize=8)
def _read_certificates(path: str, _modified: int) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)


def look_up(names: Iterable[str], table: Mapping[Failure, str], default: Failure) -> Failure:
    """Return the failure of the first name that a table has; spaces separate its names."""
    by_name = {name: failure for failure, known in table.items() for name in known.split()}
    return next((by_name[name] for name in names if name in by_name), default)


def one_line(error: object) -> str:
    """Return an exception's message on one line, without a full stop.

    URLs have neither their query, which differs between requests, nor their login. Only the begin
    of a page is left.
    """
    text = " ".join(str(error).split())
    text = text.rstrip(".") if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} …"
    return without_login(_QUERY.sub("", text))


def by_words(failure: Failure, reason: str) -> Failure:
    """Return `FULL` or `PROTECTED` in place of a refusal whose reason says so, else the failure.

    Stores have many codes for it. Credentials have nothing to do with it, whatever the status.
    """
    if failure not in {NO_ACCESS, REFUSED}:
        return failure
    if "quota" in reason.lower():
        return FULL
    return PROTECTED if _PROTECTION.search(reason) else failure


def wrong_address(variables: Iterable[str]) -> Failure | None:
    """Return the failure of the first of some variables that is set, and not to a URL.

    A client would quote all of it.
    """
    try:
        for variable in variables:
            check_url(variable, os.environ.get(variable) or DEFAULT_URL)
    except InvalidVariableError as error:
        return Failure(Meaning.SETTING, error.message.rstrip("."), error.hint)
    return None


def cause_of(error: Exception, failure: Failure) -> Exception | None:
    """Return an exception as the cause of our error, whose text Dagster logs, too.

    None if it is about credentials, and no service answered: it may quote a key, or a key's file.
    """
    is_answer = getattr(error, "response", None) is not None
    return error if is_answer or failure.meaning is not Meaning.ACCESS else None


def check_size(uri: str, size: int, listed: int) -> None:
    """Raise ``BucketUnavailableError`` if another number of bytes arrived than an object has."""
    if size < listed:
        what, hint = f"only {size} of its {listed} bytes arrived.", "Try again."
        raise BucketUnavailableError(uri, what, hint=hint)
    if size > listed:
        what = f"{size} bytes arrived, but it has {listed}: something on the way unpacks it."
        raise BucketUnavailableError(uri, what, hint="Check the proxies and the store's address.")


_BUCKET_ERRORS = {Meaning.ACCESS: BucketAccessError, Meaning.UNAVAILABLE: BucketUnavailableError}
_QUEUE_ERRORS = {Meaning.ACCESS: QueueAccessError, Meaning.UNAVAILABLE: QueueUnavailableError}


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
    if meaning is Meaning.REFUSED and key:
        return ObjectRefusedError(uri, f"{what}.", hint=hint)
    return _BUCKET_ERRORS.get(meaning, BucketError)(uri, f"{what}.", hint=hint)


def queue_error(address: str, failure: Failure) -> QueueError:
    """Return our error about a queue."""
    meaning, what, hint = failure
    if meaning is Meaning.NOT_FOUND:
        what, hint = "the queue does not exist", "Create it, or correct its address."
    return _QUEUE_ERRORS.get(meaning, QueueError)(address, f"{what}.", hint=hint)
