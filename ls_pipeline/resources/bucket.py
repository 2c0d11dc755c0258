"""A bucket, with its promises in words. `s3.py` and `gcs.py` keep them.

``tests/contracts/test_bucket.py`` holds every implementation to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.domain.listing_ranges import ListingRange, RangeBoundary
    from ls_pipeline.domain.objects import StoredObject


class Readable(Protocol):
    """What can be listed and read: a bucket, or a folder of a disk that holds the same."""

    def uri(self, key: str = "") -> str: ...
    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]: ...
    def get(self, key: str, version: str = "") -> bytes: ...


class Bucket(Protocol):
    """One bucket on S3 or GCS.

    Safe to use from several threads. Keys are opaque: every legal key works, byte for byte
    (``//``, ``./``, ``..``, spaces, ``+``, ``%``, ``?``, ``#``, unicode, control characters).

    Every method may raise ``BucketNotFoundError``, ``BucketAccessError`` (credentials
    missing, wrong or not enough) or ``BucketUnavailableError`` (no answer, throttled, a
    server error; after the client's own retries).
    """

    @property
    def scheme(self) -> str:
        """``s3`` or ``gs``."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def region(self) -> str:
        """The one that requests are signed for; empty where that is nothing to know."""
        ...

    def uri(self, key: str = "") -> str:
        """Give ``scheme://name/key``."""
        ...

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        """List the keys that start with ``prefix`` and are greater than ``after``.

        In the order of the keys' UTF-8 bytes, each key once, in pages of up to 1,000. The
        first is one request, made when it is asked for; later ones are asked for some ahead.
        An empty listing yields no page. Folder markers are listed like any other object.
        """
        ...

    def ranges(
        self, prefix: str = "", after: str = "", range_boundaries: Iterable[RangeBoundary] = ()
    ) -> Iterator[ListingRange]:
        """List as `pages` does; many are asked for at once where their boundaries are given.

        These are in ascending order, best a page apart: they change how fast a listing is,
        never what it says. A range that is written as its boundary's fingerprint says is given
        as that boundary, without its objects.
        """
        ...

    def get(self, key: str, version: str = "") -> bytes:
        """Read a whole object: as it is now, or exactly the ``version`` that a listing told.

        Raises ``ObjectNotFoundError`` when the key is gone and ``ObjectChangedError`` when
        another version has taken its place. A body shorter than announced is an error, never
        a short answer. The bytes are as stored: no decompression.
        """
        ...

    def download(self, one: StoredObject, file: BinaryIO) -> None:
        """Write exactly this version of an object to ``file``, in ranges; raises as `get` does.

        After an error, what is in ``file`` is worthless.
        """
        ...

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        """Write a whole object, replacing what was there; give it as a listing would.

        Returns only when the store has confirmed the content by its checksum. Readers see
        the old object or the new one, never a part. With ``if_version`` it replaces this version
        alone, empty means: none at all; else raises ``ObjectChangedError``.
        """
        ...

    def copy(self, key: str, to: str) -> None:
        """Copy an object inside the bucket, without its bytes passing by here.

        Raises ``ObjectNotFoundError``.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        ...
