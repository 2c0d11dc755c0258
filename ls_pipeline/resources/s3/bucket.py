"""S3 buckets, over the client of dagster-aws's ``S3Resource``.

A bucket with a role has a client of botocore's own: ``S3Resource`` takes a profile or fixed
keys, and those of a role expire within the hour.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any, BinaryIO

import dagster as dg
from pydantic import Field, PrivateAttr

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.listing_ranges import ListingRange, RangeBoundary
from ls_pipeline.domain.objects import StoredObject, uri
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.listing import ListingPage, parallel_listing
from ls_pipeline.resources.s3.credentials import CredentialsError, check_keys, session_in_role
from ls_pipeline.resources.s3.fast_list import FastListTransport
from ls_pipeline.resources.s3.fast_objects import FastObjects, md5
from ls_pipeline.settings.model import Source, Target, TargetParams


@dataclass(frozen=True)
class S3Options:
    """What a connection says of one bucket beyond its name; what is empty, the resource says."""

    endpoint_url: str = ""
    region_name: str = ""
    role_arn: str = ""
    external_id: str = ""
    kms_key_id: str = ""
    """Encrypts what is written."""


_NO_OPTIONS = S3Options()


PIECE = 2**20
"""Bytes of a download that are in memory at once."""


class S3Buckets(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Amazon S3, or any store that speaks its protocol.

    What is empty is found as every AWS tool finds it: AWS_* environment variables, the shared
    configuration files, then the machine's role.
    """

    region_name: str = Field(default="", description="Empty: AWS_DEFAULT_REGION and so on.")
    endpoint_url: str = Field(default="", description="Empty: AWS_ENDPOINT_URL, else Amazon's.")
    profile_name: str = Field(default="", description="Empty: AWS_PROFILE, else the default one.")

    max_attempts: int = Field(default=5, ge=1, description="Tries of each request.")

    _transports: "_Transports" = PrivateAttr(default_factory=lambda: _Transports())  # noqa: PLW0108

    def open(self, name: str, options: S3Options = _NO_OPTIONS) -> Bucket:
        """Give a bucket; nothing is asked of it yet. Raises ``BucketAccessError``.

        Buckets that differ in nothing but name and key share a client, and its connections.
        """
        with _translated(uri("s3", name, "")):
            transport = self._transports.get(replace(options, kms_key_id=""), self._transport)
            return S3Bucket(name, transport, options.kms_key_id)

    def bucket_of(self, part: Source | Target) -> Bucket:
        """Open the bucket of a source or target, with its params."""
        params = part.params
        return self.open(
            part.path,
            S3Options(
                params.endpoint_url,
                params.region_name,
                params.role_arn,
                params.external_id,
                params.kms_key_id if isinstance(params, TargetParams) else "",
            ),
        )

    def _transport(self, options: S3Options) -> FastListTransport:
        from botocore.session import Session  # half a second

        own = Session(profile=self.profile_name or None)
        return FastListTransport(self._client(options), own.get_config_variable("ca_bundle"))

    def _client(self, options: S3Options) -> Any:
        check_keys()
        region = options.region_name or self.region_name
        endpoint = options.endpoint_url or self.endpoint_url
        if options.role_arn:
            return self._client_in_role(options, region, endpoint)
        from dagster_aws.s3 import S3Resource  # it takes two seconds

        return S3Resource(
            region_name=region or None,
            endpoint_url=endpoint or None,
            profile_name=self.profile_name or None,
            max_attempts=self.max_attempts,
        ).get_client()

    def _client_in_role(self, options: S3Options, region: str, endpoint: str) -> Any:
        from botocore.session import Session  # half a second
        from dagster_aws.utils import construct_boto_client_retry_config

        # As S3Resource has it.
        config = construct_boto_client_retry_config(self.max_attempts)  # type: ignore[no-untyped-call]
        own = Session(profile=self.profile_name or None)
        session = session_in_role(own, options.role_arn, options.external_id, region, config)
        return session.create_client(
            "s3", region_name=region or None, endpoint_url=endpoint or None, config=config
        )


class _Transports:
    """Makes one for the same options, whichever thread asks first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[S3Options, FastListTransport] = {}

    def get(
        self, options: S3Options, make: Callable[[S3Options], FastListTransport]
    ) -> FastListTransport:
        with self._lock:
            if options not in self._made:
                self._made[options] = make(options)
            return self._made[options]


KMS = "aws:kms"


@dataclass(frozen=True)
class S3Bucket:
    """One S3 bucket; keeps the promises of ``Bucket``."""

    name: str
    transport: FastListTransport = field(repr=False)
    kms_key_id: str = ""
    scheme: str = "s3"

    def uri(self, key: str = "") -> str:
        return uri(self.scheme, self.name, key)

    @property
    def client(self) -> Any:
        return self.transport.client

    @property
    def region(self) -> str:
        return str(self.client.meta.region_name or "")

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        return (list(listing_range.objects) for listing_range in self.ranges(prefix, after))

    def ranges(
        self, prefix: str = "", after: str = "", range_boundaries: Iterable[RangeBoundary] = ()
    ) -> Iterator[ListingRange]:
        return parallel_listing(self.uri(), partial(self._list, prefix), after, range_boundaries)

    def _list(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        asked = {"StartAfter": after, "ContinuationToken": token}
        with _translated(self.uri()):
            answer = self.transport.list(
                Bucket=self.name,
                Prefix=prefix,
                MaxKeys=limit,
                **{name: asked[name] for name in asked if asked[name]},
            )
        if answer is None or (token and token == answer.token):
            raise self._no_listing()
        return answer._replace(read=partial(self._read, answer.read))

    def _read(self, read: Callable[[], list[StoredObject]]) -> list[StoredObject]:
        try:
            return read()
        except ValueError as error:
            raise self._no_listing() from error

    def _no_listing(self) -> BucketError:
        return BucketUnavailableError(
            self.uri(),
            "the answer is no whole listing; check AWS_ENDPOINT_URL and the proxy, if any.",
        )

    def get(self, key: str, version: str = "") -> bytes:
        if version and (direct := self._direct(key)):
            came = direct.get(key, version)
            if came is not None:
                return came
        with self._object(key):
            body: bytes = self._open(key, version).read()  # botocore refuses a body cut short
        return body

    @contextmanager
    def _object(self, key: str) -> Iterator[None]:
        """Turn what is raised about an object into our errors.

        To those who may list a folder alone, S3 says of an absent object that access is refused.
        """
        try:
            with _translated(self.uri(key), self.name):
                yield
        except BucketAccessError as error:
            if self._is_gone(key):
                raise ObjectNotFoundError(self.uri(key)) from error
            raise

    def _is_gone(self, key: str) -> bool:
        try:
            return all(one.key != key for one in next(self.pages(key), []))
        except BucketError:
            return False

    def _direct(self, key: str) -> FastObjects | None:
        """Give what reads and writes this object without botocore; None where nothing does."""
        with _translated(self.uri(key), self.name):
            return self.transport.objects(self.name)

    def download(self, one: StoredObject, file: BinaryIO) -> None:
        with self._object(one.key):
            file.writelines(self._open(one.key, one.version).iter_chunks(PIECE))

    def _open(self, key: str, version: str) -> Any:
        match = {"IfMatch": f'"{version}"'} if version else {}
        answer = self.client.get_object(Bucket=self.name, Key=key, **match)
        told = answer.get("ETag", "").strip('"')
        if told and told == (version or told):
            return answer["Body"]
        # An error with status 200, or a proxy's page.
        answer["Body"].close()
        raise BucketUnavailableError(
            self.uri(key), "something else came than this object; try again."
        )

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        may_be_repeated = if_version is None and not self.kms_key_id
        direct = self._direct(key) if may_be_repeated else None
        if direct:
            version = direct.put(key, body, content_type)
            if version:
                return StoredObject(key, version, len(body))
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        try:
            with _translated(self.uri(key), self.name):
                answer = self.client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    ChecksumSHA256=checksum,  # the store refuses what does not match it
                    **_only_onto(if_version),
                    **self._encryption,
                )
        except ObjectNotFoundError as error:  # what it was to replace is gone
            raise ObjectChangedError(self.uri(key)) from error
        except BucketUnavailableError as error:
            if if_version is None or "NotImplemented" not in str(error):
                raise
            return self.put(key, body, content_type)  # a store that knows no conditions
        version = answer.get("ETag", "").strip('"')
        told = answer.get("ChecksumSHA256")
        if not version or not (told == checksum if told else self._holds(key, body, version)):
            raise BucketUnavailableError(
                self.uri(key), "the store did not confirm what was sent; try again."
            )
        if direct and str(answer.get("ServerSideEncryption", "")).startswith(KMS):
            direct.give_up()  # no version is an MD5 there: each object would be written twice
        if self.kms_key_id and answer.get("ServerSideEncryption") != KMS:
            raise BucketError(
                self.uri(key),
                "the store took it without encrypting it with kms_key_id; use a store that can, "
                "or leave kms_key_id out.",
            )
        return StoredObject(key, version, len(body))

    def copy(self, key: str, to: str) -> None:
        with self._object(key):
            self.client.copy_object(
                Bucket=self.name,
                Key=to,
                CopySource={"Bucket": self.name, "Key": key},
                **self._encryption,
            )

    @property
    def _encryption(self) -> dict[str, str]:
        if not self.kms_key_id:
            return {}
        return {"ServerSideEncryption": KMS, "SSEKMSKeyId": self.kms_key_id}

    def delete(self, key: str) -> None:
        with _translated(self.uri(key), self.name):
            self.client.delete_object(Bucket=self.name, Key=key)

    def notifications(self) -> dict[str, Any]:
        """Give whom the bucket tells of its changes, as S3 tells it."""
        with _translated(self.uri()):
            found: dict[str, Any] = self.client.get_bucket_notification_configuration(
                Bucket=self.name
            )
        return found

    def _holds(self, key: str, body: bytes, version: str) -> bool:
        """Tell whether a store that tells no checksum holds these bytes.

        Mostly its ETag is their MD5; where it is not, as of an encrypted object, read them back.
        """
        return version == md5(body) or self.get(key, version) == body


def _only_onto(version: str | None) -> dict[str, str]:
    """Give the condition under which a put may replace what is there."""
    if version is None:
        return {}
    return {"IfMatch": f'"{version}"'} if version else {"IfNoneMatch": "*"}


_ABSENT = {"NoSuchKey", "404", "NotFound"}
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
"""Refusals of credentials that S3 sends with status 400."""
_LATER = {
    "Throttling",
    "RequestTimeout",
    "OperationAborted",
    "BadDigest",
    "IncompleteBody",
    "KMS.ThrottlingException",
    "KMS.KMSInternalException",
}
"""Codes to try again after that don't show it by their status."""
_FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 403, 429, 500
_ADVICE = {
    "RequestTimeTooSkewed": "set this machine's clock",
}
_KMS_ADVICE = {
    "KMS.NotFoundException": "correct kms_key_id; a key serves buckets of its own region alone",
    "KMS.DisabledException": "have the key enabled, or set kms_key_id to another",
    "AccessDenied": "allow the credentials kms:GenerateDataKey and kms:Decrypt on it",
}
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role."
)


@contextmanager
def _translated(place: str, bucket: str = "") -> Iterator[None]:
    """Turn what botocore raises about a place into our errors; ``bucket`` is an object's."""
    import botocore.exceptions as aws  # half a second
    from botocore.parsers import ResponseParserError

    try:
        yield
    except CredentialsError as error:
        raise error.kind(place, str(error)) from error
    except aws.ClientError as error:
        raise _from_answer(place, bucket, error) from error
    except aws.NoCredentialsError as error:
        raise BucketAccessError(place, f"there are no AWS credentials; {_CREDENTIALS}") from error
    except (
        aws.PartialCredentialsError,
        aws.ProfileNotFound,
        aws.CredentialRetrievalError,
        aws.TokenRetrievalError,
        aws.SSOError,
        aws.InvalidConfigError,
        aws.ConfigParseError,
    ) as error:
        raise BucketAccessError(place, f"{_words(error)}; {_CREDENTIALS}") from error
    except (aws.HTTPClientError, aws.ConnectionError) as error:
        raise BucketUnavailableError(
            place,
            f"S3 does not answer ({error}); check the network, and endpoint_url or "
            "AWS_ENDPOINT_URL.",
        ) from error
    except (
        aws.IncompleteReadError,
        aws.FlexibleChecksumError,
        aws.PaginationError,
        ResponseParserError,
    ) as error:
        raise BucketUnavailableError(
            place, f"the answer came damaged ({_words(error)}); try again."
        ) from error
    except aws.BotoCoreError as error:
        raise BucketError(place, f"{_words(error)}; correct it.") from error
    except ValueError as error:  # botocore's word for a malformed endpoint
        raise BucketError(place, f"{error}; correct endpoint_url or AWS_ENDPOINT_URL.") from error


def _words(error: Exception) -> str:
    """Give botocore's words on one line, without the regular expression that a name must match."""
    return " ".join(str(error).partition(": Bucket name must")[0].split()).rstrip(".")


def _from_answer(  # noqa: PLR0911 - a table of answers
    place: str, bucket: str, error: Any
) -> BucketError:
    told = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    code = str(told.get("Code", ""))
    status = meta.get("HTTPStatusCode", 0)
    said = ": ".join(filter(None, (code, told.get("Message")))).rstrip(".") or f"status {status}"
    refused = ObjectRefusedError if bucket else BucketError
    if code == "NoSuchBucket" or (code in _ABSENT and not bucket):
        return BucketNotFoundError(uri("s3", bucket, "") if bucket else place)
    if code in _ABSENT:
        return ObjectNotFoundError(place)
    if code in _CHANGED:
        return ObjectChangedError(place)
    if code in _ELSEWHERE:
        headers = meta.get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or told.get("Region", "the bucket's")
        return BucketError(
            place,
            f"the bucket is in another region; set region_name or AWS_DEFAULT_REGION to {region}.",
        )
    if code not in _LATER and (code.startswith("KMS.") or "kms:" in str(told.get("Message"))):
        # The objects are readable to these credentials, their key is not.
        kind = BucketAccessError if status == _FORBIDDEN else refused
        advice = _KMS_ADVICE.get(code, "have the key put in order, or set kms_key_id to another")
        return kind(place, f"KMS refuses the encryption key ({said}); {advice}.")
    if code == "InvalidObjectState":
        return refused(place, f"it is archived ({said}); restore it, and have it tried again.")
    if status in {401, 403} or code in _EXPIRED:
        advice = _ADVICE.get(code, "check the credentials and their policy")
        return BucketAccessError(place, f"access is refused ({said}); {advice}.")
    if code in _LATER or status == _TOO_MANY or status >= _SERVER_ERROR:
        return BucketUnavailableError(place, f"S3 can't answer now ({code or status}); try again.")
    return refused(place, f"S3 refused ({said}).")
