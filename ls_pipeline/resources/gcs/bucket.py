"""Google Cloud Storage buckets, over Google's client."""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

from ls_pipeline.domain.errors import (
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ls_pipeline.domain.notification_setup import (
    GCSNotification,
    NotificationCheck,
    check_gcs_notifications,
)
from ls_pipeline.domain.objects import StoredObject, uri
from ls_pipeline.resources.failures import bucket_error, cause_of, unreadable, wrong_address
from ls_pipeline.resources.gcs.errors import GCS, credentials_failure, failure, handled
from ls_pipeline.resources.gcs.fast_list import FIELDS, FastListTransport, parse_listing
from ls_pipeline.resources.listing import ListedBucket, ListingPage
from ls_pipeline.resources.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.model import Source, Target

T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
"""Seconds to connect, and between two bytes, at most."""

CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name a file or a folder of certificates; the first one that is set counts."""

UPLOAD_CHUNK = 16 * 2**20
"""Bytes of a file that are in memory at once while it is uploaded."""


@dataclass(frozen=True)
class GCSBuckets:
    """Google Cloud Storage.

    Credentials are Application Default Credentials; with STORAGE_EMULATOR_HOST set, none.
    """

    project: str = ""
    """Empty: GOOGLE_CLOUD_PROJECT, else the credentials' own."""
    retry_seconds: float = 30.0
    """For how long a request is retried."""
    answer_seconds: float = 0.0
    """For how long an answer is waited for; 0: LS_PIPELINE_STORE_SECONDS."""
    new_client: Callable[[], Any] | None = field(default=None, repr=False)
    """Makes a client; None: one for the project."""

    def open(self, name: str, *, requester_pays: bool = False) -> Bucket:
        """Return a bucket, without a request to it. Raises ``BucketAccessError``.

        If the requester pays, it is the client's project.
        """
        certificates = next(filter(None, map(unreadable, CERTIFICATES)), None)
        if wrong := wrong_address(["STORAGE_EMULATOR_HOST"]) or certificates:
            raise bucket_error(uri("gs", name, ""), wrong)
        try:
            transport = self._transport
        except Exception as error:  # noqa: BLE001 - Google's libraries let through any
            found = credentials_failure(error)
            raise bucket_error(uri("gs", name, ""), found) from cause_of(error, found)
        emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
        client = transport.client
        payer = client.project if requester_pays else ""
        return GCSBucket(
            name,
            client,
            self._retry,
            self._patience,
            emulated=emulated,
            payer=payer,
            transport=transport,
        )

    def bucket_of(self, part: Source | Target) -> Bucket:
        """Open the bucket of a source or target."""
        return self.open(part.path, requester_pays=part.params.requester_pays)

    @cached_property
    def _transport(self) -> FastListTransport:
        from google.cloud.storage import Client  # a second

        def new() -> Any:
            return self.new_client() if self.new_client else Client(project=self.project or None)

        # It may ask the machine for credentials.
        return FastListTransport(self._patience.wait_for(new), self._patience)

    @cached_property
    def _patience(self) -> Patience:
        return Patience(self.answer_seconds)

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self.retry_seconds)


@dataclass(frozen=True)
class GCSBucket(ListedBucket):
    """One GCS bucket; implements ``Bucket``."""

    name: str
    client: Any = field(repr=False)
    retry_always: Any = field(repr=False)
    patience: Patience = field(default_factory=Patience, repr=False)
    emulated: bool = False
    payer: str = ""
    """The project that pays for requests; empty: the bucket's own."""
    transport: FastListTransport | None = field(default=None, repr=False)
    """None: Google's client sends all requests."""
    scheme: str = "gs"
    region: str = ""

    @property
    def _bucket(self) -> Any:
        """The client's bucket."""
        return self.client.bucket(self.name, user_project=self.payer or None)

    @property
    def timeout(self) -> tuple[float, float]:
        seconds = self.patience.attempt_seconds
        if not self.patience.is_silent:
            seconds *= 2  # there are fewer attempts than at S3
        return min(CONNECT_SECONDS, seconds), min(READ_SECONDS, seconds)

    @property
    def retry(self) -> Any:
        """How to repeat requests; None if the store does not answer anyway."""
        return None if self.patience.is_silent else self.retry_always

    def _list(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        params = {
            "prefix": prefix,
            "startOffset": after,  # inclusive
            "pageToken": token,
            "userProject": self.payer,
            "maxResults": limit + bool(after and not token),
            "fields": FIELDS,
        }
        query = {name: value for name, value in params.items() if value}
        with _translated(self.uri()):
            body = self._get(f"/b/{quote(self.name, safe='')}/o", query)
        page = self._parsed(partial(parse_listing, body, after))
        return page._replace(read=partial(self._parsed, page.read))

    def _get(self, path: str, query: dict[str, Any]) -> bytes:
        """Return the body of an answer."""
        body = self.transport and self.transport.get(path, query, self.timeout)
        if not body:
            connection = self.client._connection  # noqa: SLF001 - as its own listing does
            body = connection.api_request(
                method="GET",
                path=path,
                query_params=query,
                expect_json=False,
                timeout=self.timeout,
                retry=self.retry,
            )
        return body

    def _parsed(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except ValueError as error:
            raise BucketUnavailableError(
                self.uri(),
                "the answer is not a complete listing.",
                hint="Check STORAGE_EMULATOR_HOST, if set, and the proxy, if any.",
            ) from error

    def get(self, key: str, version: str = "") -> bytes:
        with self._reading(key, version) as blob:
            body: bytes = blob.download_as_bytes(**self._download_options)
        return body

    def download(self, stored: StoredObject, file: BinaryIO) -> None:
        with self._reading(stored.key, stored.version) as blob:
            blob.download_to_file(file, **self._download_options)

    @property
    def _download_options(self) -> dict[str, Any]:
        """The options for bytes as stored, with their checksum verified."""
        return {
            "raw_download": True,
            "timeout": self.timeout,
            "retry": self.retry,
            "checksum": "auto",
        }

    @contextmanager
    def _reading(self, key: str, version: str) -> Iterator[Any]:
        """Yield the blob of a version, and check that it is the one that was read."""
        generation = int(version) if version else None
        try:
            with _translated(self.uri(key)):
                yield self._bucket.blob(key, generation=generation)
        except ObjectNotFoundError as error:
            raise self._missing(key, version) from error
        # An emulator answers a request for any version with the current version.
        if self.emulated and version and self.version(key) != version:
            raise ObjectChangedError(self.uri(key))

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        # An emulator supports no conditions.
        if self.emulated and if_version is not None and self.version(key) != if_version:
            return self._find_written(key, body)
        generation = None if if_version is None else int(if_version or 0)
        blob = self._bucket.blob(key)
        try:
            with self._writing(key):
                blob.upload_from_string(
                    body, content_type, if_generation_match=generation, **self._upload_options
                )
        except ObjectChangedError:
            return self._find_written(key, body)
        return self._confirmed(blob, hashlib.md5(body, usedforsecurity=False).digest(), len(body))

    def put_file(self, key: str, file: Path, content_type: str) -> StoredObject:
        blob = self._bucket.blob(key, chunk_size=UPLOAD_CHUNK)
        with self._writing(key):
            blob.upload_from_filename(str(file), content_type, **self._upload_options)
        md5 = hashlib.md5(usedforsecurity=False)
        with file.open("rb") as stream:
            while chunk := stream.read(UPLOAD_CHUNK):
                md5.update(chunk)
        return self._confirmed(blob, md5.digest(), file.stat().st_size)

    @property
    def _upload_options(self) -> dict[str, Any]:
        return {"checksum": "md5", "timeout": self.timeout, "retry": self.retry}

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            with _translated(self.uri(key)):
                yield
        except ObjectNotFoundError as error:
            raise BucketNotFoundError(self.uri()) from error

    def _confirmed(self, blob: Any, md5: bytes, size: int) -> StoredObject:
        # The service refuses a body that does not match its checksum; a proxy may not.
        if blob.md5_hash != base64.b64encode(md5).decode():
            raise BucketUnavailableError(
                self.uri(blob.name), "the store did not confirm the upload.", hint="Try again."
            )
        return StoredObject(blob.name, str(blob.generation), size)

    def copy(self, key: str, to: str, *, source: Bucket | None = None, version: str = "") -> None:
        origin = source or self
        generation = int(version) if version else None
        blob = self.client.bucket(origin.name, user_project=self.payer or None).blob(key)
        copied, token = self._bucket.blob(to), ""
        try:
            with _translated(origin.uri(key)):
                while token is not None:  # a large object is copied in several requests
                    token, *_ = copied.rewrite(
                        blob,
                        token=token or None,
                        if_source_generation_match=generation,
                        timeout=self.timeout,
                        retry=self.retry,
                    )
        except ObjectNotFoundError as error:
            if source is None:
                raise self._missing(key) from error
            raise ObjectNotFoundError(source.uri(key)) from error
        except KeyError as error:  # the client reads what a proxy need not have written
            raise BucketUnavailableError(
                self.uri(to), "the answer is not that to a copy.", hint="Try again."
            ) from error
        if self.emulated and version and origin.version(key) != version:
            raise ObjectChangedError(origin.uri(key))

    def checksum(self, stored: StoredObject) -> str:
        with self._reading(stored.key, stored.version) as blob:
            blob.reload(timeout=self.timeout, retry=self.retry)
        return str(blob.md5_hash or blob.crc32c or "")

    def delete(self, key: str) -> None:
        try:
            with _translated(self.uri(key)):
                self._bucket.blob(key).delete(timeout=self.timeout, retry=self.retry)
        except ObjectNotFoundError as error:
            if not self._exists():
                raise BucketNotFoundError(self.uri()) from error

    def check_notifications(self, destination: str, folder: str) -> NotificationCheck:
        with _translated(self.uri()):
            notifications = [
                GCSNotification(
                    f"projects/{item.topic_project}/topics/{item.topic_name}",
                    tuple(item.event_types or ()),
                    item.blob_name_prefix or "",
                )
                for item in self._bucket.list_notifications(timeout=self.timeout)
            ]
        return check_gcs_notifications(notifications, destination, folder)

    def _missing(self, key: str, version: str = "") -> BucketError:
        """Return what the service meant by "not found": the bucket, the object, or its version."""
        if not self._exists():
            return BucketNotFoundError(self.uri())
        if version and self.version(key):
            return ObjectChangedError(self.uri(key))
        return ObjectNotFoundError(self.uri(key))

    def _exists(self) -> bool:
        try:
            next(self.pages(), None)
        except BucketNotFoundError:
            return False
        return True


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Turn what Google's client raises into our errors about a bucket or an object.

    The service answers "not found" for a missing bucket and a missing object alike.
    """
    try:
        yield
    except handled() as error:
        found = failure(error, GCS)
        raise bucket_error(place, found) from cause_of(error, found)
