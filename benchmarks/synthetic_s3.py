"""A bucket server that costs less than what is measured: it makes up its objects.

S3's ListObjectsV2 (prefix, start-after, continuation-token, max-keys, encoding-type), what is alike
in ListObjects, and GetObject, over any number of objects; and PutObject, so that they change. Each
bucket that is named is there, with objects of its own. Each answer waits for a latency, all at the
same time. It checks no signature.

    python -m benchmarks.synthetic_s3 --objects 1000 --bucket big=1000000 --latency 0.08

It prints its URL when it is ready. Each object is a task, ``{"text": <its key>}``.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PAGE = 1000
KEPT = 3000
"""Pages of a bucket, of 200 KB each, that are made up once: so they cost nothing when it counts."""

OLD, NEW = "2026-01-02T03:04:05.000Z", "2026-02-03T04:05:06.000Z"
"""When the objects were modified, and when the extra ones."""

PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*").fullmatch
"""Whether a key is the same when it is quoted, as most are: `quote` takes its time."""


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """The keys ``objects/000000000.json``, ``objects/000000001.json`` and so on, in order."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        if isinstance(at, slice):
            return [f"objects/{n:09}.json" for n in range(*at.indices(self.size))]
        if at >= self.size:
            raise IndexError(at)
        return f"objects/{at:09}.json"


class Written(NamedTuple):
    """An object that was put: its bytes, and when it was modified."""

    body: bytes
    modified: str


class Listed(NamedTuple):
    """An answer to a listing: what it says of the keys after one, up to another or to the end."""

    after: str
    upto: str | None
    answer: bytes

    def tells_of(self, key: str) -> bool:
        return self.after < key and (self.upto is None or key <= self.upto)


@dataclass
class Store:
    """The objects of one bucket: ``keys`` in the order of their bytes, and some ``extra`` ones.

    ``written`` are those that were put, over what was made up or beside it.
    """

    keys: Sequence[str]
    extra: list[str] = field(default_factory=list)
    written: dict[str, Written] = field(default_factory=dict)
    listed: dict[str, Listed] = field(default_factory=dict)

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[str], bool]:
        """Give the next ``limit`` keys with ``prefix`` after ``after``, and whether more follow."""
        found: list[str] = []
        for keys in (self.keys, self.extra):
            first = bisect.bisect_right(keys, after)
            if after < prefix:
                first = bisect.bisect_left(keys, prefix)
            found += keys[first : first + limit + 1]
        mine = [key for key in sorted(found) if key.startswith(prefix)] if prefix else sorted(found)
        return mine[:limit], len(mine) > limit

    def body(self, key: str) -> bytes | None:
        """Give an object's bytes; None where there is no such object."""
        if written := self.written.get(key):
            return written.body
        return content(key) if self._has(key) else None

    def put(self, key: str, body: bytes) -> None:
        """Write an object; answers that told of its key are made anew."""
        if not self._has(key):
            bisect.insort(self.extra, key)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.written[key] = Written(body, now.replace("+00:00", "Z"))
        self.listed = {query: one for query, one in self.listed.items() if not one.tells_of(key)}

    def listing(self, query: str) -> bytes:
        """Answer ListObjectsV2, as before where nothing changed."""
        if query not in self.listed:
            if len(self.listed) >= KEPT:
                self.listed.pop(next(iter(self.listed)))
            self.listed[query] = listing(self, query)
        return self.listed[query].answer

    def _has(self, key: str) -> bool:
        for keys in (self.keys, self.extra):
            at = bisect.bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                return True
        return False


@dataclass(eq=False)
class Stores:
    """All buckets: each that is named has ``objects``, unless ``sizes`` says otherwise.

    There are no ``missing`` ones; of the ``silent`` ones no answer comes.
    """

    objects: int
    extra: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    missing: Iterable[str] = ()
    silent: Iterable[str] = ()
    named: dict[str, Store] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Store:
        if name not in self.named:
            size = self.sizes.get(name, self.objects)
            self.named[name] = Store(Numbered(size), sorted(self.extra))
        return self.named[name]


def content(key: str) -> bytes:
    """Give the bytes of the object of this key, if there is one."""
    return f'{{"text": {quoted(key)}}}'.encode()


def etag(key: str) -> str:
    """Give the version of the object of this key, if it was made up."""
    return version(content(key))


def version(body: bytes) -> str:
    """Give the version of an object as S3 does: the MD5 of its bytes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def listing(store: Store, query: str) -> Listed:
    """Make the answer to ListObjectsV2."""
    asked = dict(parse_qsl(query, keep_blank_values=True))
    after = asked.get("continuation-token") or asked.get("start-after") or asked.get("marker", "")
    limit = min(int(asked.get("max-keys", PAGE)), PAGE)
    keys, more = store.page(asked.get("prefix", ""), after, limit)
    quoting = asked.get("encoding-type") == "url"
    as_xml = _quoted if quoting else escape
    extra, written = set(store.extra), store.written
    rows = "".join(
        f"<Contents><Key>{as_xml(key)}</Key><LastModified>"
        f"{written[key].modified if key in written else NEW if key in extra else OLD}"
        f"</LastModified><ETag>&quot;{_etag(store, key)}&quot;</ETag>"
        f"<Size>{len(written[key].body) if key in written else len(quoted(key)) + 10}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if more else ""
    told = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"{'<EncodingType>url</EncodingType>' * quoting}"
        f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
    )
    return Listed(after, keys[-1] if more else None, told.encode())


def _etag(store: Store, key: str) -> str:
    return version(store.written[key].body) if key in store.written else etag(key)


def _quoted(key: str) -> str:
    return key if PLAIN(key) else quote(key, safe="/")


def answer(stores: Stores, method: str, target: str, sent: bytes) -> tuple[int, str, bytes]:
    """Answer a request for ``/bucket?list-type=2…`` or ``/bucket/key``: status, headers, body."""
    path, _, query = target.partition("?")
    name, _, key = unquote(path).removeprefix("/").partition("/")
    if name in stores.missing:
        return 404, "", b"<Error><Code>NoSuchBucket</Code></Error>"
    store = stores[name]
    if not key:
        return 200, "Content-Type: application/xml\r\n", store.listing(query)
    if method == "PUT":
        store.put(key, sent)
    body = store.body(key)
    if body is None:
        return 404, "", b"<Error><Code>NoSuchKey</Code></Error>"
    headers = f'ETag: "{_etag(store, key)}"\r\nContent-Type: application/json\r\n'
    return 200, headers, b"" if method == "PUT" else body


LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Link(asyncio.Protocol):
    """One client's connection: its requests one after the other, each after the latency."""

    def __init__(self, stores: Stores, latency: float, later: Callable[..., object]) -> None:
        self.stores, self.latency, self.later = stores, latency, later
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to answer to."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type alone
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there as a whole."""
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, rest = self.read.partition(b"\r\n\r\n")
            told = LENGTH.search(head)
            length = int(told[1]) if told else 0
            if len(rest) < length:
                return
            self.read = rest[length:]
            method, target, _version = head.decode().split(" ", 2)
            if target.lstrip("/").partition("?")[0].partition("/")[0] not in self.stores.silent:
                self.later(self.latency, self.answer, method, target, rest[:length])

    def answer(self, method: str, target: str, sent: bytes) -> None:
        """Send the answer."""
        status, headers, body = answer(self.stores, method, target, sent)
        head = f"HTTP/1.1 {status} -\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))


async def serve(stores: Stores, latency: float, port: int) -> None:
    """Serve on loopback for good."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Link(stores, latency, loop.call_later), "127.0.0.1", port
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await server.serve_forever()


def main() -> None:
    """Serve what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--bucket", action="append", default=[], help="NAME=OBJECTS, of another.")
    parser.add_argument("--extra", action="append", default=[], help="A key more; may be repeated.")
    parser.add_argument("--missing", action="append", default=[], help="A bucket not to have.")
    parser.add_argument("--silent", action="append", default=[], help="A bucket not to answer of.")
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each answer.")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    sizes = {name: int(size) for name, _, size in (one.partition("=") for one in asked.bucket)}
    stores = Stores(asked.objects, asked.extra, sizes, asked.missing, asked.silent)
    asyncio.run(serve(stores, asked.latency, asked.port))


if __name__ == "__main__":
    main()
