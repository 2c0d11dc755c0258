"""What a client of S3 sends and gets: over more connections than its ten, listings read fast.

botocore takes 80 ms of a processor for a page of 1,000 keys, this 1 to 4, and less where nobody
asks what the page says but only whether it is as it was. botocore goes on building and signing
requests, repeating them, finding a bucket's region, and understanding refusals: of a
listing that came whole it is merely shown the frame, without the objects.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from contextlib import suppress
from datetime import datetime
from functools import partial
from hashlib import blake2b
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from lxml import etree

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.listing import ListingPage
from ls_pipeline.resources.s3.fast_objects import FastObjects

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 64
"""Kept open at most; those beyond are made anew for each request."""

_stored_object = partial(tuple.__new__, StoredObject)
"""As `StoredObject`, without a call in Python: there may be millions."""

_FRAME = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class FastListTransport:
    """The connections of one client, and what came over them. Safe to use from several threads."""

    def __init__(self, client: Any, ca_bundle: str | None) -> None:
        from botocore.httpsession import URLLib3Session  # half a second
        from botocore.utils import get_environ_proxies

        config = client.meta.config
        authorities = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE", "")  # as botocore has it
        self.client = client
        self._session = URLLib3Session(
            verify=authorities or True,
            proxies=get_environ_proxies(client.meta.endpoint_url),
            timeout=(config.connect_timeout, config.read_timeout),
            max_pool_connections=CONNECTIONS,
        )
        self._came = threading.local()
        self._authorities = authorities
        self._objects: dict[str, FastObjects | None] = {}
        self._lock = threading.Lock()
        client.meta.events.register("before-send.s3", self._send)

    def list(self, **asked: Any) -> ListingPage | None:
        """Ask for a page of a listing; None when what came is none. Raises as botocore does."""
        self._came.answer = None
        self.client.list_objects_v2(EncodingType="url", **asked)
        answer: ListingPage | None = self._came.answer
        return answer

    def objects(self, bucket: str) -> FastObjects | None:
        """Give a bucket's objects without botocore; None where only it can open them.

        Raises ``CredentialsError`` when a role is refused, and is asked for again the next time.
        """
        with self._lock:
            if bucket not in self._objects:
                self._objects[bucket] = self._opened(bucket)
            return self._objects[bucket]

    def _opened(self, bucket: str) -> FastObjects | None:
        from botocore.exceptions import BotoCoreError  # half a second

        try:
            return FastObjects(self.client, bucket, self._authorities)
        except (BotoCoreError, OSError, ValueError):
            return None

    def _send(self, request: Any, event_name: str, **_: object) -> Any:
        answer = self._session.send(request)
        if event_name.endswith(".ListObjectsV2") and answer.status_code == HTTPStatus.OK:
            with suppress(ValueError):  # botocore knows an error when it sees one
                self._came.answer = answer_in(answer.content)
                return _framed(answer)
        return answer


def _framed(answer: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    return AWSResponse(answer.url, answer.status_code, answer.headers, _Frame(_FRAME))


class _Frame(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.getvalue()


def answer_in(body: bytes) -> ListingPage:
    """Read an answer of ListObjectsV2; its objects are understood when they are asked for.

    Raises ``ValueError`` when it is none, or not whole; so does reading its objects. A store that
    is cut off, or a proxy that answers in its place, must not pass for the end of a listing:
    objects that are merely not listed would be taken for removed.
    """
    begin, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    written = body[begin:end] if 0 <= begin < end else b""
    root, space = _parsed(body[:begin] + body[end:] if written else body)
    more = root.findtext(space + "IsTruncated")
    token = root.findtext(space + "NextContinuationToken") or ""
    if not (more == "false" or (more == "true" and token)):
        raise ValueError("no end")
    fingerprint = blake2b(written, digest_size=16).hexdigest() if written else ""
    read = partial(_objects, body, written, root, space)
    return ListingPage(token if more == "true" else "", read, fingerprint)


def _objects(body: bytes, written: bytes, root: Any, space: str) -> list[StoredObject]:
    """Understand the objects of an answer: what is written of them, and what is around that."""
    found = _usual(written)
    if found and root.findtext(space + "KeyCount") == str(len(found)):
        keys, times, tags, sizes = map(list, zip(*found, strict=True))
    else:
        root, space = _parsed(body)
        keys, times, tags, sizes = (
            [one.text or "" for one in root.iter(space + name)]
            for name in ("Key", "LastModified", "ETag", "Size")
        )
        tags = [tag.strip('"') for tag in tags]
    if root.findtext(space + "EncodingType") == "url":
        keys = [unquote_plus(key) if "%" in key or "+" in key else key for key in keys]
    fields = zip(keys, tags, map(int, sizes), _times(times), strict=True)
    return list(map(_stored_object, fields))


_CONTENTS = re.compile(
    r"<Contents><Key>([^<&]*)</Key><LastModified>([^<&]*)</LastModified>"
    r"<ETag>(?:&quot;|&#34;|\")?([^<&\"]*)(?:&quot;|&#34;|\")?</ETag>"
    r"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>([0-9]+)</Size>"
    r"(?:<StorageClass>[^<]*</StorageClass>)?</Contents>"
)
"""An object as Amazon and its like write it: read so, a page takes a third of the time."""


def _usual(written: bytes) -> list[tuple[str, str, str, str]]:
    """Give key, time, tag and size of each object.

    Objects that are not written as usual are left out; whether there are any, the answer's own
    count has to say.
    """
    try:
        return _CONTENTS.findall(written.decode())
    except UnicodeDecodeError:
        return []


def _parsed(body: bytes) -> tuple[Any, str]:
    """Parse an answer; give its root and the namespace of its elements."""
    try:
        root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error
    space, end, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise ValueError(name)
    return root, space + end


def _times(texts: list[str]) -> list[datetime | None]:
    """Read times as Amazon writes them; written otherwise, None: they only inform people."""
    if sys.version_info < (3, 11):  # which knows no Z
        texts = [text.replace("Z", "+00:00") for text in texts]
    try:
        return list(map(datetime.fromisoformat, texts))
    except ValueError:
        return [None] * len(texts)
