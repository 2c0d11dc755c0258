"""S3 buckets, over the client of dagster-aws's ``S3Resource``."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
from pydantic import Field

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ls_pipeline.domain.objects import StoredObject, uri
from ls_pipeline.resources.bucket import Bucket


class S3Buckets(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Amazon S3, or any store that speaks its protocol.

    What is empty is found as every AWS tool finds it: AWS_* environment variables, the shared
    configuration files, then the machine's role.
    """

    region_name: str = Field(default="", description="Empty: AWS_DEFAULT_REGION and so on.")
    endpoint_url: str = Field(default="", description="Empty: AWS_ENDPOINT_URL, else Amazon's.")
    profile_name: str = Field(default="", description="Empty: AWS_PROFILE, else the default one.")

    max_attempts: int = Field(default=5, ge=1, description="Tries of each request.")

    def open(self, name: str) -> Bucket:
        """Give a bucket; nothing is asked of it yet. Raises ``BucketAccessError``."""
        with _translated(uri("s3", name, "")):
            return S3Bucket(name, self._client)

    @cached_property
    def _client(self) -> Any:
        from dagster_aws.s3 import S3Resource  # noqa: PLC0415 - it takes two seconds

        return S3Resource(
            region_name=self.region_name or None,
            endpoint_url=self.endpoint_url or None,
            profile_name=self.profile_name or None,
            max_attempts=self.max_attempts,
        ).get_client()


@dataclass(frozen=True)
class S3Bucket:
    """One S3 bucket; keeps the promises of ``Bucket``."""

    name: str
    client: Any = field(repr=False)
    scheme: str = "s3"

    def uri(self, key: str = "") -> str:
        return uri(self.scheme, self.name, key)

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        paginator = self.client.get_paginator("list_objects_v2")
        start = {"StartAfter": after} if after else {}
        listing = iter(paginator.paginate(Bucket=self.name, Prefix=prefix, **start))
        while True:
            with _translated(self.uri()):
                page = next(listing, None)
            if page is None:
                return
            if not _is_whole(page):
                raise BucketUnavailableError(
                    self.uri(),
                    "the answer is no whole listing; check AWS_ENDPOINT_URL and the proxy, if any.",
                )
            if found := [_listed(one) for one in page.get("Contents", ())]:
                yield found

    def get(self, key: str, version: str = "") -> bytes:
        match = {"IfMatch": f'"{version}"'} if version else {}
        with _translated(self.uri(key), self.name):
            answer = self.client.get_object(Bucket=self.name, Key=key, **match)
            body: bytes = answer["Body"].read()  # botocore refuses a body cut short
        return body

    def put(self, key: str, body: bytes, content_type: str) -> StoredObject:
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        with _translated(self.uri(key), self.name):
            answer = self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumSHA256=checksum,  # the store refuses what does not match it
            )
        version = answer.get("ETag", "").strip('"')
        told = answer.get("ChecksumSHA256")
        if not version or not (told == checksum if told else self._holds(key, body, version)):
            raise BucketUnavailableError(
                self.uri(key), "the store did not confirm what was sent; try again."
            )
        return StoredObject(key, version, len(body))

    def delete(self, key: str) -> None:
        with _translated(self.uri(key), self.name):
            self.client.delete_object(Bucket=self.name, Key=key)

    def _holds(self, key: str, body: bytes, version: str) -> bool:
        """Tell whether a store that tells no checksum holds these bytes.

        Mostly its ETag is their MD5; where it is not, as of an encrypted object, read them back.
        """
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return version == md5 or self.get(key, version) == body


def _is_whole(page: dict[str, Any]) -> bool:
    """Tell a page of a listing from what a proxy says, or a store that is cut off.

    botocore takes an empty answer, a web page, or a missing token for the end of the listing;
    objects that are merely not listed would pass for removed.
    """
    return not page.get("IsTruncated", True) or bool(page.get("NextContinuationToken"))


def _listed(one: dict[str, Any]) -> StoredObject:
    return StoredObject(one["Key"], one["ETag"].strip('"'), one["Size"], one["LastModified"])


_ABSENT = {"NoSuchKey", "404", "NotFound"}
_CHANGED = {"PreconditionFailed", "412"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
"""Refusals of credentials that S3 sends with status 400."""
_LATER = {"Throttling", "RequestTimeout", "OperationAborted", "BadDigest", "IncompleteBody"}
"""Codes to try again after that don't show it by their status."""
_TOO_MANY, _SERVER_ERROR = 429, 500
_ADVICE = {
    "RequestTimeTooSkewed": "set this machine's clock",
    "InvalidObjectState": "restore the object from its archive",
}
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role."
)


@contextmanager
def _translated(place: str, bucket: str = "") -> Iterator[None]:
    """Turn what botocore raises about a place into our errors; ``bucket`` is an object's."""
    import botocore.exceptions as aws  # noqa: PLC0415 - half a second
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
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
            place, f"S3 does not answer ({error}); check the network and AWS_ENDPOINT_URL."
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
        raise BucketError(place, f"{error}; correct AWS_ENDPOINT_URL.") from error


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
            place, f"the bucket is in another region; set AWS_DEFAULT_REGION to {region}."
        )
    if status in {401, 403} or code in _EXPIRED:
        advice = _ADVICE.get(code, "check the credentials and their policy")
        return BucketAccessError(place, f"access is refused ({said}); {advice}.")
    if code in _LATER or status == _TOO_MANY or status >= _SERVER_ERROR:
        return BucketUnavailableError(place, f"S3 can't answer now ({code or status}); try again.")
    return BucketError(place, f"S3 refused ({said}).")
