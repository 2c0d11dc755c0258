"""Google Cloud Storage buckets, over the client of dagster-gcp's ``GCSResource``."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import base64
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, BinaryIO

import dagster as dg
from pydantic import Field

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.listing_ranges import PAGE, ListingRange, RangeBoundary
from ls_pipeline.domain.notification_setup import GCSNotification
from ls_pipeline.domain.objects import StoredObject, uri
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.listing import ListingPage, parallel_listing
from ls_pipeline.settings.model import Source, Target

TIMEOUT = (5.0, 60.0)
"""Seconds: to connect, and between two bytes."""

CONNECTIONS = 64
"""Kept open at most."""

FIELDS = "items(name,generation,size,updated),nextPageToken"


class GCSBuckets(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Google Cloud Storage.

    Credentials are Application Default Credentials; with STORAGE_EMULATOR_HOST set, none.
    """

    project: str = Field(default="", description="Empty: GOOGLE_CLOUD_PROJECT, else ADC's.")

    retry_seconds: float = Field(default=30.0, ge=0, description="Time for tries of a request.")

    def open(self, name: str) -> Bucket:
        """Give a bucket; nothing is asked of it yet. Raises ``BucketAccessError``."""
        with _translated(uri("gs", name, "")):
            emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
            return GCSBucket(name, self._client, self._retry, emulated=emulated)

    def bucket_of(self, part: Source | Target) -> Bucket:
        """Open the bucket of a source or target."""
        return self.open(part.path)

    @cached_property
    def _client(self) -> Any:
        from dagster_gcp.gcs import GCSResource  # it takes three seconds

        client = GCSResource(project=self.project or None).get_client()
        _widen(client)
        return client

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self.retry_seconds)


def _widen(client: Any) -> None:
    """Let a client keep more connections than ten, in the way that Google's own guide shows."""
    from requests.adapters import HTTPAdapter

    session = client._http  # noqa: SLF001 - there is no other way
    if not session.is_mtls:  # which has an adapter of its own
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))


@dataclass(frozen=True)
class GCSBucket:
    """One GCS bucket; keeps the promises of ``Bucket``."""

    name: str
    client: Any = field(repr=False)
    retry: Any = field(repr=False)
    emulated: bool = False
    scheme: str = "gs"
    region: str = ""

    def uri(self, key: str = "") -> str:
        return uri(self.scheme, self.name, key)

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        for listing_range in self.ranges(prefix, after):
            # The service's pages have 1,000 keys at most; an emulator's have all there are.
            for start in range(0, len(listing_range.objects), PAGE):
                yield list(listing_range.objects[start : start + PAGE])

    def ranges(
        self, prefix: str = "", after: str = "", range_boundaries: Iterable[RangeBoundary] = ()
    ) -> Iterator[ListingRange]:
        return parallel_listing(self.uri(), partial(self._list, prefix), after, range_boundaries)

    def _list(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        with _translated(self.uri()):
            listing = self.client.list_blobs(
                self.name,
                prefix=prefix or None,
                start_offset=after or None,  # inclusive
                page_token=token or None,
                page_size=limit + 1,
                fields=FIELDS,
                timeout=TIMEOUT,
                retry=self.retry,
            )
            found = [_listed(blob) for blob in next(listing.pages, ())]
            if found and found[0].key <= after:  # an emulator gives all there are
                found = [one for one in found if one.key > after]
            return ListingPage(listing.next_page_token or "", lambda: found)

    def get(self, key: str, version: str = "") -> bytes:
        with self._reading(key, version) as blob:
            body: bytes = blob.download_as_bytes(**self._how)
        return body

    def download(self, one: StoredObject, file: BinaryIO) -> None:
        with self._reading(one.key, one.version) as blob:
            blob.download_to_file(file, **self._how)

    @property
    def _how(self) -> dict[str, Any]:
        """Give the bytes as stored, checked, with patience."""
        return {
            "raw_download": True,
            "timeout": TIMEOUT,
            "retry": self.retry,
            "checksum": "auto",
        }

    @contextmanager
    def _reading(self, key: str, version: str) -> Iterator[Any]:
        """Give the blob of a version, and see that this was what was read."""
        generation = int(version) if version else None
        try:
            with _translated(self.uri(key)):
                yield self.client.bucket(self.name).blob(key, generation=generation)
        except BucketNotFoundError as error:
            raise self._missing(key, version) from error
        # An emulator answers any version with whatever is there now.
        if self.emulated and version and self._version(key) != version:
            raise ObjectChangedError(self.uri(key))

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        # An emulator knows no conditions.
        if self.emulated and if_version is not None and self._version(key) != if_version:
            place = self.uri(key)
            raise ObjectChangedError(place) if self._exists() else BucketNotFoundError(self.uri())
        with _translated(self.uri(key)):
            blob = self.client.bucket(self.name).blob(key)
            blob.upload_from_string(
                body,
                content_type=content_type,
                checksum="md5",
                timeout=TIMEOUT,
                retry=self.retry,
                if_generation_match=None if if_version is None else int(if_version or 0),
            )
        # The service refuses what doesn't match its checksum; what answered may be a proxy.
        if blob.md5_hash != _md5(body):
            raise BucketUnavailableError(
                self.uri(key), "the store did not confirm what was sent; try again."
            )
        return StoredObject(key, str(blob.generation), len(body))

    def copy(self, key: str, to: str) -> None:
        bucket = self.client.bucket(self.name)
        try:
            with _translated(self.uri(key)):
                blob = bucket.blob(key)
                bucket.copy_blob(blob, bucket, to, timeout=TIMEOUT, retry=self.retry)
        except BucketNotFoundError as error:
            raise self._missing(key) from error

    def delete(self, key: str) -> None:
        try:
            with _translated(self.uri(key)):
                self.client.bucket(self.name).blob(key).delete(timeout=TIMEOUT, retry=self.retry)
        except BucketNotFoundError as error:
            missing = self._missing(key)
            if not isinstance(missing, ObjectNotFoundError):
                raise missing from error

    def notifications(self) -> list[GCSNotification]:
        """List whom the bucket tells of its changes."""
        with _translated(self.uri()):
            return [
                GCSNotification(
                    f"projects/{one.topic_project}/topics/{one.topic_name}",
                    tuple(one.event_types or ()),
                    one.blob_name_prefix or "",
                )
                for one in self.client.bucket(self.name).list_notifications(timeout=TIMEOUT)
            ]

    def _missing(self, key: str, version: str = "") -> BucketError:
        """Tell what the service meant by "not found": the bucket, the object, or its version."""
        if not self._exists():
            return BucketNotFoundError(self.uri())
        if version and self._version(key):
            return ObjectChangedError(self.uri(key))
        return ObjectNotFoundError(self.uri(key))

    def _exists(self) -> bool:
        try:
            next(self.pages(), None)
        except BucketNotFoundError:
            return False
        return True

    def _version(self, key: str) -> str:
        """Give the object's version as it is now, empty when it is gone."""
        with _translated(self.uri(key)):
            blob = self.client.bucket(self.name).get_blob(key, timeout=TIMEOUT, retry=self.retry)
        return str(blob.generation) if blob else ""


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _listed(blob: Any) -> StoredObject:
    return StoredObject(blob.name, str(blob.generation), blob.size, blob.updated)


_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or give "
    "the machine a service account."
)


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Turn what Google's clients raise about a place into our errors.

    The service says "not found" of bucket and object alike; here it is the bucket.
    """
    import requests  # with the next, a second
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage.exceptions import DataCorruption

    try:
        yield
    except api.NotFound as error:
        raise BucketNotFoundError(place) from error
    except api.PreconditionFailed as error:
        raise ObjectChangedError(place) from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise BucketAccessError(
            place, f"access is refused ({_words(error)}); check the credentials and their roles."
        ) from error
    except DataCorruption as error:
        raise BucketUnavailableError(place, "the answer came damaged; try again.") from error
    except (
        api.RetryError,
        api.TooManyRequests,
        api.ServerError,
        auth.TransportError,
        requests.RequestException,
        ConnectionError,
    ) as error:
        raise _unavailable(place, error) from error
    except auth.GoogleAuthError as error:
        raise _unauthenticated(place, error) from error
    except api.GoogleAPICallError as error:
        is_object = bool(place.split("/", 3)[3])
        kind = ObjectRefusedError if is_object else BucketError
        raise kind(place, f"GCS refused ({_words(error)}).") from error
    except OSError as error:  # "Project was not passed and could not be determined"
        raise BucketAccessError(
            place, f"{str(error).rstrip('.')}; set GOOGLE_CLOUD_PROJECT."
        ) from error
    except ValueError as error:  # of a name that is none
        raise BucketError(place, f"{str(error).rstrip('.')}; correct it.") from error


def _unauthenticated(place: str, error: Any) -> BucketError:
    if error.retryable:  # the service that gives tokens failed
        return _unavailable(place, error)
    return BucketAccessError(
        place, f"there are no usable Google credentials ({_words(error)}); {_CREDENTIALS}"
    )


def _unavailable(place: str, error: Exception) -> BucketUnavailableError:
    cause = getattr(error, "cause", None) or error  # what a retry gave up on
    if getattr(cause, "response", None) is None:
        what = f"GCS does not answer ({_words(cause)}); check the network."
    else:
        what = f"GCS can't answer now ({_words(cause)}); try again."
    return BucketUnavailableError(place, what)


def _words(error: BaseException) -> str:
    """Give the service's own words, or the reason for none.

    Never the request's URL: that of an upload lets anyone go on with it.
    """
    response = getattr(error, "response", None)
    if response is not None:
        try:
            return str(response.json()["error"]["message"]).rstrip(".")
        except (ValueError, KeyError, TypeError):
            return f"status {response.status_code}"
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    return str(reason).rstrip(".")
