"""What botocore's exceptions mean: one table for S3, SQS and STS."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.failures import (
    Failure,
    Meaning,
    Service,
    access_refused,
    busy,
    damaged,
    no_answer,
    one_line,
    refused,
    wrong_address,
    wrong_setting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[tuple[type[Exception], ...], Callable[[Service, str], Failure]]

S3 = Service("S3", "Check the credentials and their policy.", "endpoint_url or AWS_ENDPOINT_URL")
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

CREDENTIALS_HINT = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or attach a role to the machine."
)
KMS_ACCESS_HINT = "Allow the credentials kms:GenerateDataKey and kms:Decrypt on it."
KMS_HINT = "Repair the key, or set kms_key_id to another."

_CODES = (
    (Meaning.NO_BUCKET, "", "NoSuchBucket"),
    (Meaning.NOT_FOUND, "", "404 NoSuchKey NonExistentQueue NotFound QueueDoesNotExist"),
    (Meaning.CHANGED, "", "412 ConditionalRequestConflict PreconditionFailed"),
    (Meaning.OTHER_REGION, "", "301 AuthorizationHeaderMalformed PermanentRedirect"),
    (Meaning.ARCHIVED, "Restore it, then retry it.", "InvalidObjectState"),
    (Meaning.ACCESS, "", "AccessDenied"),
    (Meaning.ACCESS, "Set this machine's clock.", "RequestTimeTooSkewed"),
    (
        Meaning.ACCESS,
        "Check the AWS credentials, and this machine's clock.",
        (
            "ExpiredToken IncompleteSignature InvalidAccessKeyId InvalidClientTokenId "
            "InvalidToken MissingAuthenticationToken SignatureDoesNotMatch TokenRefreshRequired "
            "UnrecognizedClient"
        ),
    ),
    (
        Meaning.ACCESS,
        "Enable STS in this region, or set region_name to another.",
        "RegionDisabled",
    ),
    (Meaning.ACCESS, KMS_ACCESS_HINT, "KMS.AccessDenied KmsAccessDenied"),
    (
        Meaning.REFUSED,
        "Correct kms_key_id; a key serves only buckets of its own region.",
        "KMS.NotFound KmsNotFound",
    ),
    (
        Meaning.REFUSED,
        "Have the key enabled, or set kms_key_id to another.",
        "KMS.Disabled KmsDisabled",
    ),
    (
        Meaning.UNAVAILABLE,  # whatever their status
        "",
        (
            "BadDigest IncompleteBody InternalError InternalFailure KMS.KMSInternal KMS.Throttling "
            "KmsThrottled OperationAborted OverLimit RequestLimitExceeded RequestThrottled "
            "RequestTimeout ServiceUnavailable SlowDown Throttled Throttling"
        ),
    ),
)
_REFUSALS = {code: (meaning, hint) for meaning, hint, codes in _CODES for code in codes.split()}
"""Error codes of AWS, without the prefix of SQS and the suffix "Exception"."""

_CREDENTIALS_ERRORS = (
    "ConfigNotFound",
    "ConfigParseError",
    "CredentialRetrievalError",
    "InvalidConfigError",
    "LoginError",  # not in every version
    "MetadataRetrievalError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "TokenRetrievalError",
    "UnknownCredentialError",
)


class CredentialsError(Exception):
    """Credentials are unusable; raised through botocore, which asks for them."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.what)


def failure(error: Exception, service: Service) -> Failure:
    """Return what an exception of botocore means; it is one of `handled`."""
    import botocore.exceptions as aws  # half a second

    if isinstance(error, CredentialsError):
        return error.failure
    if isinstance(error, aws.ClientError):
        return _refusal(error.response, service)
    make = next(make for kinds, make in _exceptions() if isinstance(error, kinds))
    return make(service, _words(error))


def error_code(error: BaseException | None) -> str:
    """Return the code of the refusal that is an error's cause; empty if it has another cause."""
    response = getattr(error and error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


@cache
def handled() -> tuple[type[Exception], ...]:
    """Return the classes of exceptions that can leave a call of botocore."""
    from botocore.exceptions import ClientError

    kinds = (kind for kinds, _ in _exceptions() for kind in kinds)
    return (CredentialsError, ClientError, *kinds)


@cache
def _exceptions() -> tuple[Row, ...]:
    """Return what exceptions without an answer mean; the first row that matches counts."""
    import botocore.exceptions as aws
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    return (
        (
            (aws.NoCredentialsError,),
            lambda _service, _words: Failure(
                Meaning.ACCESS, "no AWS credentials were found", CREDENTIALS_HINT
            ),
        ),
        (
            tuple(getattr(aws, name) for name in _CREDENTIALS_ERRORS if hasattr(aws, name)),
            lambda _service, words: Failure(Meaning.ACCESS, words, CREDENTIALS_HINT),
        ),
        ((aws.HTTPClientError, aws.ConnectionError), no_answer),
        (
            (
                aws.ChecksumError,
                aws.FlexibleChecksumError,
                aws.IncompleteReadError,
                aws.PaginationError,
                ResponseParserError,
            ),
            damaged,
        ),
        (
            (aws.NoRegionError,),
            lambda _service, _words: Failure(
                Meaning.SETTING, "no region is known", "Set region_name or AWS_DEFAULT_REGION."
            ),
        ),
        ((aws.BotoCoreError,), wrong_setting),
        ((ValueError,), wrong_address),  # botocore's for a malformed endpoint
        ((HTTPError,), damaged),  # botocore translates only some that reading a body raises
    )


def _refusal(response: dict[str, Any], service: Service) -> Failure:
    """Return what an error that a service answered means."""
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, message = str(error.get("Code", "")), str(error.get("Message") or "")
    status = meta.get("HTTPStatusCode", 0)
    reason = one_line(": ".join(filter(None, (code, message)))) or f"status {status}"
    key = code.removeprefix("AWS.SimpleQueueService.").removesuffix("Exception")
    meaning, hint = _REFUSALS.get(key) or (_meaning_of(status), "")
    is_about_key = key.lower().startswith("kms") or "kms:" in message
    if is_about_key and meaning in {Meaning.ACCESS, Meaning.REFUSED}:
        # The objects are readable to these credentials, their key is not.
        default = KMS_ACCESS_HINT if meaning is Meaning.ACCESS else KMS_HINT
        return Failure(meaning, f"KMS refuses the encryption key ({reason})", hint or default)
    if meaning is Meaning.ACCESS:
        return access_refused(service, reason, hint)
    if meaning is Meaning.UNAVAILABLE:
        return busy(service, code or str(status))
    if meaning is Meaning.OTHER_REGION:
        headers = meta.get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or error.get("Region", "the bucket's")
        hint = f"Set region_name or AWS_DEFAULT_REGION to {region}."
        return Failure(meaning, "the bucket is in another region", hint)
    if meaning is Meaning.ARCHIVED:
        return Failure(meaning, f"the object is archived ({reason})", hint)
    return refused(service, reason)._replace(meaning=meaning)


def _meaning_of(status: int) -> Meaning:
    if status in {401, 403}:
        return Meaning.ACCESS
    if status == 429 or status >= 500:  # noqa: PLR2004 - HTTP's
        return Meaning.UNAVAILABLE
    return Meaning.REFUSED


def _words(error: Exception) -> str:
    """Return botocore's words, without the regular expression that a name must match."""
    return one_line(str(error).partition(": Bucket name must")[0])
