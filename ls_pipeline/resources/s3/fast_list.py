"""Fast listings of S3: botocore's requests over more connections, with a parser of our own.

For a page of 1,000 keys botocore needs 80 ms of processor time, this module 1 to 4 ms, and less if
only the page's fingerprint is wanted. botocore still builds and signs requests, retries them, finds
a bucket's region, and parses refusals. Of a complete listing it only gets an empty frame.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
import threading
import zlib
from contextlib import suppress
from datetime import datetime
from functools import partial
from hashlib import blake2b
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from lxml import etree

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.text import without_login
from ls_pipeline.resources.client_cache import OncePerKey
from ls_pipeline.resources.listing import ListingPage
from ls_pipeline.resources.pace import pace_session
from ls_pipeline.resources.patience import Patience
from ls_pipeline.resources.s3.errors import MovedError, NoAnswerError
from ls_pipeline.resources.s3.fast_objects import FastObjects
from ls_pipeline.resources.s3.writing import CHECKSUMS

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 64
"""Connections kept open; each further request opens its own."""

CONNECT_SECONDS = 10.0
"""How long a connection may take to be established."""

_stored_object = partial(tuple.__new__, StoredObject)
"""`StoredObject` without a call in Python: there may be millions."""

_ECHO = re.compile(rb"<(Prefix|StartAfter|Delimiter)>[^<]*</\1>")
"""What repeats the request, maybe with characters of a key that XML does not allow."""

_FRAME = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class FastListTransport:
    """The connections of one client. Safe to use from several threads."""

    def __init__(
        self,
        client: Any,
        ca_bundle: str | None,
        patience: Patience | None = None,
        *,
        requester_pays: bool = False,
        verify: bool = True,
    ) -> None:
        self.patience = patience or Patience()
        certificates = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE", "")  # as botocore does
        self.client = client
        self.has_conditions = True
        """Whether the store may know conditions of a put; some refuse a request that has one."""
        self.checksum = CHECKSUMS[0]
        """The best kind of checksum that the store may know, as far as known."""
        client.meta.config.request_checksum_calculation = (
            "when_required"  # it is ours that are sent
        )
        self._certificates, self._verify = certificates, verify
        self._requester_pays = requester_pays
        self._session = self._new_session(self.patience.seconds / 4)
        self._short_session = self._new_session(self.patience.short_seconds)
        self._last = _Request()
        self._objects = OncePerKey[tuple[str, str], FastObjects | None]()
        client.meta.events.register("before-call.s3", self._begin)
        client.meta.events.register("before-send.s3", self._send)
        client.meta.events.register("after-call-error.s3", self._fail)

    @property
    def address(self) -> str:
        """The address of the store, for people."""
        return without_login(str(self.client.meta.endpoint_url))

    def _new_session(self, seconds: float) -> Any:
        """Return connections that wait for an answer this long, or as the client's own do."""
        from botocore.httpsession import URLLib3Session  # half a second
        from botocore.utils import get_environ_proxies

        config = self.client.meta.config
        session = URLLib3Session(
            verify=self._verify and (self._certificates or True),
            proxies=get_environ_proxies(self.client.meta.endpoint_url),
            timeout=(
                min(config.connect_timeout, seconds, CONNECT_SECONDS),
                min(config.read_timeout, seconds),
            ),
            max_pool_connections=CONNECTIONS,
        )
        pace_session(session)
        return session

    def list(self, **params: Any) -> ListingPage | None:
        """Request a page of a listing; None if the answer is another. Raises as botocore does."""
        from botocore.exceptions import ClientError

        last = self._last
        last.page, last.is_damaged = None, False
        try:
            self.client.list_objects_v2(EncodingType="url", **params)
        except ClientError:  # botocore takes a document that is cut off for an error of the server
            if not last.is_damaged:
                raise
        return last.page

    def objects(self, bucket: str, checksum: str = CHECKSUMS[0]) -> FastObjects | None:
        """Return the fast access to a bucket's objects; None if only botocore can open them.

        Objects are written with a kind of ``checksum``, SHA-256 or none.

        Raises ``CredentialsError`` if a role is refused; the next call asks for it again.
        """
        return self._objects.get((bucket, checksum), lambda: self._open(bucket, checksum))

    def _open(self, bucket: str, checksum: str) -> FastObjects | None:
        from botocore.exceptions import BotoCoreError  # half a second

        try:
            return FastObjects(
                self.client,
                bucket,
                self._certificates if self._verify else None,
                self.patience,
                checksum=checksum,
                requester_pays=self._requester_pays,
            )
        except (BotoCoreError, OSError, ValueError):
            return None

    def _begin(self, **_: object) -> None:
        self._last.attempts, self._last.status = 0, 0
        self._last.began = self.patience.begin()

    def _fail(self, exception: Exception, **_: object) -> None:
        from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

        if isinstance(exception, (ConnectTimeoutError, NoAnswerError, ReadTimeoutError)):
            self.patience.unanswered(self._last.began)

    def _send(self, request: Any, event_name: str, **_: object) -> Any:
        patience, last = self.patience, self._last
        if last.attempts and not patience.has_time_since(last.began):
            raise NoAnswerError(self.address, last.status)
        last.attempts += 1
        session = self._short_session if patience.is_silent else self._session
        answer = session.send(request)
        if _is_unpacked(answer):
            answer.raw.close()
            request.headers["Accept-Encoding"] = "gzip"  # not signed, as Google changes it
            answer = session.send(request)
        patience.answered()
        last.status, last.is_damaged = answer.status_code, False
        if answer.status_code in _REDIRECTS and "x-amz-bucket-region" not in answer.headers:
            raise MovedError(_place_of(answer))
        if event_name.endswith(".ListObjectsV2") and answer.status_code == HTTPStatus.OK:
            body = _content_of(answer)
            try:
                last.page = parse_listing(body)
            except ValueError:
                last.is_damaged = b"<Error>" not in body  # botocore recognizes an error
            else:
                return _framed(answer)
        return answer


class _Request(threading.local):
    """The last request of a thread."""

    page: ListingPage | None = None
    began = 0.0
    attempts = 0
    status = 0
    """The status of the last answer."""
    is_damaged = False
    """Whether the last answer should be a listing, and is not."""


def _is_unpacked(answer: Any) -> bool:
    """Return whether Google's S3 API answers with other bytes than are stored."""
    stored = answer.headers.get("x-goog-stored-content-encoding", "identity")
    return bool(stored not in {"identity", answer.headers.get("content-encoding")})


_REDIRECTS = {301, 302, 303, 307, 308}


def _place_of(answer: Any) -> str:
    """Return where a redirect leads to, without a query: the header's place, or S3's endpoint."""
    endpoint = re.search(rb"<Endpoint>([^<]+)</Endpoint>", answer.content)
    place = answer.headers.get("location") or (endpoint[1].decode() if endpoint else "")
    return without_login(place.partition("?")[0])


def _content_of(answer: Any) -> bytes:
    """Return the body of an answer, which some proxies compress without being asked."""
    body: bytes = answer.content
    if answer.headers.get("content-encoding") == "gzip":
        with suppress(OSError, EOFError, zlib.error):
            return gzip.decompress(body)
    return body


def _framed(answer: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    return AWSResponse(answer.url, answer.status_code, answer.headers, _Frame(_FRAME))


class _Frame(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.getvalue()


def parse_listing(body: bytes) -> ListingPage:
    """Parse an answer of ListObjectsV2; its objects are parsed when they are read.

    Raises ``ValueError`` if it is another document or incomplete; so does reading its objects. A
    truncated answer, or a proxy's page, must not pass for the end of a listing: objects that are
    merely not listed would be taken for removed.
    """
    begin, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    if not 0 <= begin < end:
        begin = end = len(body)
    contents = body[begin:end]
    frame = _ECHO.sub(b"", body[:begin]), _ECHO.sub(b"", body[end:])
    root, namespace = _parse(b"".join(frame))
    is_truncated = root.findtext(namespace + "IsTruncated")
    token = root.findtext(namespace + "NextContinuationToken") or ""
    if not (is_truncated == "false" or (is_truncated == "true" and token)):
        raise ValueError("no end")
    fingerprint = blake2b(contents, digest_size=16).hexdigest() if contents else ""
    read = partial(_parse_objects, frame, contents, root, namespace)
    return ListingPage(token if is_truncated == "true" else "", read, fingerprint)


def _parse_objects(
    frame: tuple[bytes, bytes], contents: bytes, root: Any, namespace: str
) -> list[StoredObject]:
    """Parse the objects of an answer from its contents, or as a document if those are unusual."""
    rows = _usual_rows(contents)
    if rows and root.findtext(namespace + "KeyCount") == str(len(rows)):
        keys, times, tags, sizes = map(list, zip(*rows, strict=True))
    else:
        root, namespace = _parse(contents.join(frame))
        items = list(root.iter(namespace + "Contents"))
        keys, times, tags, sizes = (
            [item.findtext(namespace + name) or "" for item in items]
            for name in ("Key", "LastModified", "ETag", "Size")
        )
        tags = [version_of(tag) for tag in tags]
    for given, name in ((keys, "Key"), (tags, "ETag"), (sizes, "Size")):
        if any(not key.endswith("/") for key, each in zip(keys, given, strict=True) if not each):
            raise ValueError(f"an object has no {name}")
    if root.findtext(namespace + "EncodingType") == "url":
        keys = [unquote_plus(key) if "%" in key or "+" in key else key for key in keys]
    fields = zip(keys, tags, (int(size or 0) for size in sizes), _times(times), strict=True)
    return list(map(_stored_object, fields))


def version_of(tag: str) -> str:
    """Return the version that an ETag names. A proxy that compresses makes the ETag weak."""
    return tag.removeprefix("W/").strip('"')


_CONTENTS = re.compile(
    r"<Contents><Key>([^<&]*)</Key><LastModified>([^<&]*)</LastModified>"
    r"<ETag>(?:&quot;|&#34;|\")?([^<&\"]*)(?:&quot;|&#34;|\")?</ETag>"
    r"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>([0-9]+)</Size>"
    r"(?:<StorageClass>[^<]*</StorageClass>)?</Contents>"
)
"""An object as Amazon and similar stores write it; a page parses in a third of the time."""


def _usual_rows(contents: bytes) -> list[tuple[str, str, str, str]]:
    """Return key, time, tag and size of each object that is written in the usual form.

    Other objects are missing; the caller compares with the answer's own count.
    """
    try:
        return _CONTENTS.findall(contents.decode())
    except UnicodeDecodeError:
        return []


def _parse(body: bytes) -> tuple[Any, str]:
    """Return an answer's root element, and the namespace of its elements."""
    try:
        root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error
    namespace, end, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise ValueError(name)
    return root, namespace + end


def _times(texts: list[str]) -> list[datetime | None]:
    """Parse times in Amazon's form; None in any other form, since they only inform people."""
    if sys.version_info < (3, 11):  # which does not parse the Z
        texts = [text.replace("Z", "+00:00") for text in texts]
    try:
        return list(map(datetime.fromisoformat, texts))
    except ValueError:
        return [None] * len(texts)
