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
        if answer.get("ChecksumSHA256", checksum) != checksum:
            raise BucketUnavailableError(
                self.uri(key), "the store confirmed another checksum than was sent; try again."
            )
        return StoredObject(key, answer["ETag"].strip('"'), len(body))

    def delete(self, key: str) -> None:
        with _translated(self.uri(key), self.name):
            self.client.delete_object(Bucket=self.name, Key=key)


def _listed(one: dict[str, Any]) -> StoredObject:
    return StoredObject(one["Key"], one["ETag"].strip('"'), one["Size"], one["LastModified"])


_ABSENT = {"NoSuchKey", "404", "NotFound"}
_CHANGED = {"PreconditionFailed", "412"}
_LATER = {"SlowDown", "Throttling", "RequestTimeout", "RequestTimeTooSkewed", "503", "500"}
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role."
)


@contextmanager
def _translated(place: str, bucket: str = "") -> Iterator[None]:
    """Turn what botocore raises about a place into our errors."""
    import botocore.exceptions as aws  # noqa: PLC0415 - half a second
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
    except aws.ClientError as error:
        raise _from_answer(place, bucket, error) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise BucketAccessError(place, f"there are no AWS credentials; {_CREDENTIALS}") from error
    except (aws.ProfileNotFound, aws.CredentialRetrievalError, aws.TokenRetrievalError) as error:
        raise BucketAccessError(place, f"{error}; {_CREDENTIALS}") from error
    except (aws.ParamValidationError, aws.NoRegionError, aws.InvalidRegionError) as error:
        raise BucketError(place, f"{str(error).strip()}; correct it.") from error
    except (
        aws.HTTPClientError,
        aws.ConnectionError,
        aws.IncompleteReadError,
        ResponseParserError,
    ) as error:
        raise BucketUnavailableError(
            place, f"S3 does not answer ({error}); check the network and AWS_ENDPOINT_URL."
        ) from error
    except ValueError as error:  # botocore's word for a malformed endpoint
        raise BucketError(place, f"{error}; correct AWS_ENDPOINT_URL.") from error


def _from_answer(  # noqa: PLR0911 - a table of answers
    place: str, bucket: str, error: Any
) -> BucketError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = error.response.get("Error", {}).get("Message") or code
    if code == "NoSuchBucket":
        return BucketNotFoundError(uri("s3", bucket, "") if bucket else place)
    if code in _ABSENT:
        return ObjectNotFoundError(place)
    if code in _CHANGED:
        return ObjectChangedError(place)
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed", "301"}:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region", "the bucket's")
        return BucketError(
            place, f"the bucket is in another region; set AWS_DEFAULT_REGION to {region}."
        )
    if status in {401, 403}:
        return BucketAccessError(
            place,
            f"access is refused ({code}: {said.rstrip('.')}); check the credentials and "
            "their policy.",
        )
    if code in _LATER or status >= 500:  # noqa: PLR2004
        return BucketUnavailableError(place, f"S3 can't answer now ({code or status}); try again.")
    return BucketError(place, f"S3 refused ({code}: {said.rstrip('.')}).")
