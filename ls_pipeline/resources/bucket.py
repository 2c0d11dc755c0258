"""The protocol of a bucket. `s3/bucket.py` and `gcs/bucket.py` implement it.

``tests/contracts/test_bucket.py`` holds every implementation to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ls_pipeline.domain.listing_ranges import ListingRange, RangeBoundary
    from ls_pipeline.domain.notification_setup import NotificationCheck
    from ls_pipeline.domain.objects import StoredObject


class Readable(Protocol):
    """What can be listed and read: a bucket, or a folder on disk with the same objects."""

    def uri(self, key: str = "") -> str: ...
    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]: ...
    def get(self, key: str, version: str = "") -> bytes: ...
    def download(self, stored: StoredObject, file: BinaryIO) -> None: ...


class Bucket(Protocol):
    """One bucket on S3 or GCS.

    Safe to use from several threads. Keys are opaque: every legal key works, byte for byte
    (``//``, ``./``, ``..``, spaces, ``+``, ``%``, ``?``, ``#``, unicode, control characters).

    Every method may raise ``BucketNotFoundError``, ``BucketAccessError`` (credentials missing,
    wrong, or without a permission) or ``BucketUnavailableError`` (no answer, throttled, or a
    server error; raised after the client's own retries).
    """

    @property
    def scheme(self) -> str:
        """``s3`` or ``gs``."""

    @property
    def name(self) -> str: ...

    @property
    def region(self) -> str:
        """The region that requests are signed for; empty if none is known."""

    def uri(self, key: str = "") -> str:
        """Return ``scheme://name/key``."""

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        """List the keys that start with ``prefix`` and are greater than ``after``.

        In the order of the keys' UTF-8 bytes, each key once, in pages of up to 1,000 objects. The
        first page is one request, sent when it is asked for; some later pages are requested ahead.
        An empty listing yields no page. Folder markers are listed like any other object.
        """

    def ranges(
        self, prefix: str = "", after: str = "", range_boundaries: Iterable[RangeBoundary] = ()
    ) -> Iterator[ListingRange]:
        """List as `pages` does, with parallel requests if there are range boundaries.

        Boundaries are in ascending order, ideally a page apart. They change the speed of a
        listing, never its content. A range whose fingerprint equals its boundary's comes as that
        boundary, without its objects.
        """

    def find(self, key: str) -> StoredObject | None:
        """Return an object as a listing would, or None if it does not exist.

        Usually one request, and it needs the permission to list, not to read.
        """

    def version(self, key: str) -> str:
        """Return the key's current version as a listing would; empty if the object does not exist.

        Usually one request, and it needs the permission to list, not to read.
        """

    def get(self, key: str, version: str = "") -> bytes:
        """Read a whole object: its current version, or exactly the ``version`` of a listing.

        Raises ``ObjectNotFoundError`` if the key is gone and ``ObjectChangedError`` if another
        version has replaced it. A body shorter than announced is an error, never a short answer.
        The bytes are as stored: nothing is decompressed.
        """

    def download(self, stored: StoredObject, file: BinaryIO) -> None:
        """Write exactly this version of an object to ``file``, in chunks; raises as `get` does.

        Without a version, it is the current one. After an error, the content of ``file`` is
        undefined.
        """

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        """Write a whole object, replacing any other; return it as a listing would.

        Returns only after the store has confirmed the content by its checksum. Readers see the
        old object or the new one, never a part. With ``if_version`` it replaces only that version,
        and with an empty one it replaces nothing; otherwise it raises ``ObjectChangedError``. But
        if the object has this very body, it returns that object: a client repeats a request whose
        answer it lost, and may meet what the first one wrote. Some stores ignore ``if_version``.
        """

    def put_file(self, key: str, file: Path, content_type: str) -> StoredObject:
        """Write a file of any size as `put` does, with a few chunks in memory at a time."""

    def copy(self, key: str, to: str, *, source: Bucket | None = None, version: str = "") -> None:
        """Copy an object within the bucket, or from another bucket of the same store.

        The store moves the bytes. With a ``version``, it is exactly that one.

        Raises ``ObjectNotFoundError``, and ``ObjectChangedError`` for another version: the copy
        may have been made then.
        """

    def checksum(self, stored: StoredObject) -> str:
        """Return a text that two objects of this bucket share if their bytes are equal.

        Not always: for some kinds of encryption and uploads, equal bytes have several texts.
        """

    def delete(self, key: str) -> None:
        """Remove an object; an absent object is fine."""

    def check_notifications(self, destination: str, folder: str) -> NotificationCheck:
        """Return whether the bucket notifies a destination about all changes in a folder.

        ``destination`` is a queue's `Queue.destination`.
        """
