"""What botocore's exceptions mean: two tables for S3, SQS and STS."""

from __future__ import annotations

import os
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ls_pipeline.resources import failures
from ls_pipeline.resources.failures import Failure, Meaning, Service, look_up, one_line

S3 = Service(
    "S3",
    "Check the credentials and their policy. If the requester pays, set requester_pays.",
    "endpoint_url or AWS_ENDPOINT_URL",
)
SQS = Service(
    "SQS",
    "Allow the credentials sqs:ReceiveMessage and sqs:DeleteMessage on it.",
    "the queue's URL",
)
STS = Service(
    "STS",
    "Allow these credentials sts:AssumeRole on the role, name them in its trust policy, and "
    "check external_id.",
    "AWS_ENDPOINT_URL_STS",
    "role_arn and external_id",
)

_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or attach a role to the machine."
)
_NO_KEYS = Failure(Meaning.ACCESS, "no AWS credentials were found", _CREDENTIALS)
_NO_PROFILE = Failure(Meaning.ACCESS, "{reason}", "Correct AWS_PROFILE, or unset it.")
_BAD_FILE = Failure(
    Meaning.ACCESS,
    "{reason}",
    "Correct that file, AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE. It is text in UTF-8 "
    "without a byte order mark, with each section once.",
)
_NO_REGION = Failure(
    Meaning.SETTING, "no region is known", "Set region_name or AWS_DEFAULT_REGION."
)
_OTHER_REGION = Failure(
    Meaning.SETTING,
    "the bucket is in another region",
    "Set region_name or AWS_DEFAULT_REGION to {region}.",
)
_BUCKET_IN_ADDRESS = Failure(
    Meaning.SETTING,
    "the address of the store has the name of a bucket in it",
    "Leave the bucket out of {service.address}.",
)
_OTHER_STYLE = Failure(
    Meaning.SETTING,
    "the store wants the bucket in the host's name ({reason})",
    "Set addressing_style to virtual.",
)
_DENIED = failures.NO_ACCESS._replace(
    hint="A policy denies it, whatever others allow. If it demands an encryption, set "
    "server_side_encryption or kms_key_id."
)
_ARCHIVED = Failure(
    Meaning.REFUSED,
    "the object is archived ({reason})",
    "Restore it, then run ls-pipeline quarantine retry.",
)
_THEN = "then run ls-pipeline quarantine retry. A target may set kms_key_id to another."
_KEY_REFUSED = Failure(
    Meaning.REFUSED,
    "KMS refuses the encryption key ({reason})",
    f"Repair the key, {_THEN}",
)
_KEY_ACCESS = _KEY_REFUSED._replace(
    meaning=Meaning.ACCESS, hint="Allow the credentials kms:GenerateDataKey and kms:Decrypt on it."
)

_NOT_S3 = Failure(
    Meaning.REFUSED,
    "a server that is not S3 refuses the request (status {reason})",
    "Check {service.address}, and the proxies on the way to it.",
)
_MOVED = Failure(
    Meaning.SETTING, "{service.name} redirects to {reason}", "Correct {service.address}."
)

_REFUSALS = {
    failures.REFUSED._replace(meaning=Meaning.NO_BUCKET): "NoSuchBucket",
    failures.REFUSED: "NotImplemented",
    failures.NOT_FOUND: "404 NoSuchKey NonExistentQueue NotFound QueueDoesNotExist",
    failures.CHANGED: "412 ConditionalRequestConflict PreconditionFailed",
    _OTHER_REGION: "301 AuthorizationHeaderMalformed PermanentRedirect",
    _OTHER_STYLE: "InvalidPathAccess PathStyleDomainForbidden SecondLevelDomainForbidden",
    _ARCHIVED: "InvalidObjectState",
    failures.FULL: "507 InsufficientStorage XMinioStorageFull",
    failures.NO_ACCESS: "AccessDenied",
    failures.NO_ACCESS._replace(hint="Set this machine's clock."): "RequestTimeTooSkewed",
    failures.NO_ACCESS._replace(hint="Check the AWS credentials, and this machine's clock."): (
        "ExpiredToken IncompleteSignature InvalidAccessKeyId InvalidClientTokenId "
        "InvalidToken MissingAuthenticationToken SignatureDoesNotMatch TokenRefreshRequired "
        "UnrecognizedClient"
    ),
    failures.NO_ACCESS._replace(
        hint="Enable STS in this region, or set region_name to another."
    ): "RegionDisabled",
    _KEY_ACCESS: "KMS.AccessDenied KmsAccessDenied",
    _KEY_REFUSED._replace(
        hint="Correct kms_key_id; a key serves only buckets of its own region."
    ): "KMS.NotFound KmsNotFound",
    _KEY_REFUSED._replace(hint=f"Have the key enabled, {_THEN}"): "KMS.Disabled KmsDisabled",
    failures.BUSY: (  # whatever their status
        "BadDigest IncompleteBody InternalError InternalFailure KMS.KMSInternal "
        "KMS.Throttling KmsThrottled OperationAborted OverLimit RequestLimitExceeded "
        "RequestThrottled RequestTimeout ServiceUnavailable SlowDown Throttled Throttling"
    ),
}
"""Error codes of AWS, without the prefix of SQS and the suffix "Exception"."""

_EXCEPTIONS = {
    _NO_KEYS: "NoCredentialsError",
    _NO_PROFILE: "ProfileNotFound",
    _BAD_FILE: "ConfigParseError",
    Failure(Meaning.ACCESS, "{reason}", "Correct that in AWS_CONFIG_FILE or ~/.aws/config."): (
        "InvalidConfigError UnknownCredentialError"
    ),
    Failure(Meaning.ACCESS, "{reason}", _CREDENTIALS): (
        "ConfigNotFound CredentialRetrievalError LoginError MetadataRetrievalError "
        "PartialCredentialsError RefreshWithMFAUnsupportedError SSOError TokenRetrievalError"
    ),
    _NO_REGION: "NoRegionError",
    failures.BAD_PROXY: "ProxyConnectionError",
    failures.NO_ANSWER: "ConnectionError HTTPClientError",
    failures.DAMAGED: (  # HTTPError: botocore translates only some that reading a body raises
        "ChecksumError FlexibleChecksumError HTTPError IncompleteReadError PaginationError "
        "ResponseParserError ResponseStreamingError"
    ),
    failures.WRONG_SETTING: "BotoCoreError",
    failures.WRONG_ADDRESS: "ValueError",  # botocore's for a malformed endpoint
}
"""Classes of exceptions without an answer of a service."""


class OwnError(Exception):
    """What we find wrong with a request; raised through botocore."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.what)


class CredentialsError(OwnError):
    """Credentials or an endpoint are unusable."""


class NoAnswerError(OwnError):
    """A request has no time left. ``status`` is that of the answer so far; 0 if there was none."""

    def __init__(self, endpoint: str, status: int) -> None:
        silent = failures.NO_ANSWER.of(S3, f"{endpoint} left a request without an answer")
        super().__init__(failures.BUSY.of(S3, str(status)) if status else silent)


class MovedError(OwnError):
    """A server redirects to another. botocore would ask it again and again."""

    def __init__(self, place: str) -> None:
        super().__init__(_MOVED.of(S3, place or "an address that it does not name"))


def failure(error: Exception, service: Service) -> Failure:
    """Return what an exception of botocore means; it is one of `handled`."""
    from botocore.exceptions import ClientError  # half a second

    if isinstance(error, OwnError):
        return error.failure
    if isinstance(error, ClientError):
        is_listing = getattr(error, "operation_name", "") == "ListObjectsV2"
        return _refusal(error.response, service, is_listing=is_listing)
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = look_up(names, _EXCEPTIONS, failures.WRONG_SETTING)
    found = failures.of_connection(kind, error).of(service, _words(error))
    if kind in {_NO_KEYS, _NO_PROFILE, _NO_REGION} and (unread := _unread_file()):
        return found._replace(what=f"{found.what}, as {unread.what}")
    return found


def credentials_failure(error: Exception) -> Failure:
    """Return what any exception of a chain of credentials means.

    botocore lets through what the files, processes and services in it cause.
    """
    if isinstance(error, OSError) and error.filename:
        return _of_file(error)
    if isinstance(error, handled()) and not isinstance(error, ValueError):
        meaning, what, hint = failure(error, STS)
        if meaning not in {Meaning.UNAVAILABLE, Meaning.SETTING}:
            meaning = Meaning.ACCESS
        return Failure(meaning, what, hint or _CREDENTIALS)
    if isinstance(error, RuntimeError):  # botocore's for credentials that are renewed too late
        return Failure(Meaning.ACCESS, "the AWS credentials are expired", _CREDENTIALS)
    reason = type(error).__name__  # its text may quote a key
    what = f"what a file, a process or a service gave as AWS credentials can't be read ({reason})"
    return Failure(Meaning.ACCESS, what, _CREDENTIALS)


def error_code(error: BaseException | None) -> str:
    """Return the code of the refusal that is an error's cause; empty if it has another cause."""
    response = getattr(error and error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


@cache
def handled() -> tuple[type[Exception], ...]:
    """Return the classes of exceptions that can leave a call of botocore."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    botocore = (BotoCoreError, ClientError, ResponseParserError)
    return (OwnError, *botocore, HTTPError, ValueError)


_PASSED_OVER = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
"""Variables that name files which botocore passes over in silence if it can't read them."""

_FILES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    *_PASSED_OVER,
)
"""Variables that name files of credentials."""


def _unread_file() -> Failure | None:
    """Return the failure to read a file that botocore has passed over, if any."""
    paths = filter(None, map(os.environ.get, _PASSED_OVER))
    try:
        for path in paths:
            Path(path).expanduser().open().close()
    except OSError as error:
        return _of_file(error)
    return None


def _of_file(error: OSError) -> Failure:
    """Return the failure to read a file, or to start a process, that a chain of credentials names.

    A relative path is not repeated: it may be a token in place of its file.
    """
    path = str(error.filename)
    for variable in _FILES:
        value = os.environ.get(variable, "")
        if value and Path(path) in {Path(value), Path(value).expanduser()}:
            shown = f" ({path})" if Path(path).is_absolute() else ""
            what = f"the file of {variable}{shown} can't be read: {error.strerror}"
            hint = f"Correct {variable}, with a whole path, or let this user read the file."
            return Failure(Meaning.ACCESS, what, hint)
    what = f"{path}, which AWS's configuration names, can't be used: {error.strerror}"
    hint = (
        "Correct credential_process or web_identity_token_file in AWS_CONFIG_FILE, or install it."
    )
    return Failure(Meaning.ACCESS, one_line(what), hint)


def _refusal(response: dict[str, Any], service: Service, *, is_listing: bool) -> Failure:
    """Return what an error that a service answered means."""
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, message = str(error.get("Code", "")), str(error.get("Message") or "")
    status = meta.get("HTTPStatusCode", 0)
    key = code.removeprefix("AWS.SimpleQueueService.").removesuffix("Exception")
    refusal = look_up([key], _REFUSALS, _of_status(status))
    if is_listing and code == "NoSuchKey":  # the bucket's name was taken for a key
        refusal = _BUCKET_IN_ADDRESS
    if key.lower().startswith("kms") or "kms:" in message:
        # The objects are readable to these credentials, their key is not.
        refusal = {failures.NO_ACCESS: _KEY_ACCESS, failures.REFUSED: _KEY_REFUSED}.get(
            refusal, refusal
        )
    if refusal is failures.NO_ACCESS and "explicit deny" in message:
        refusal = _DENIED
    if not code and refusal in {failures.NO_ACCESS, failures.REFUSED}:
        refusal = _NOT_S3._replace(meaning=refusal.meaning)
    words = one_line(": ".join(filter(None, (code, message)))) or f"status {status}"
    refusal = failures.by_words(refusal, words)
    reason = words
    if refusal is failures.BUSY or not code:
        reason = code or str(status)
    headers = meta.get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.get("Region", "the bucket's")
    return refusal.of(service, reason, region=region)


def _of_status(status: int) -> Failure:
    if status in {401, 403}:
        return failures.NO_ACCESS
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return failures.FULL
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return failures.REFUSED
    return failures.BUSY if status == 429 or status >= 500 else failures.REFUSED  # noqa: PLR2004 - HTTP's


def _words(error: Exception) -> str:
    """Return botocore's words, without the regular expression that a name must match.

    A body that stops has no address there.
    """
    words = str(error).partition(": Bucket name must")[0]
    return one_line(words.replace(' on endpoint URL: "None"', " in the middle of an answer"))
