"""An S3 server whose objects are synthetic, so that it costs less than the clients it measures.

It speaks ListObjectsV2 (prefix, start-after, continuation-token, max-keys, encoding-type), the same
subset of ListObjects, GetObject and PutObject. Any bucket name works, and each bucket has its own
objects. Each response is delayed by the latency; delays of parallel requests overlap. It checks no
signatures.

    python -m benchmarks.synthetic_s3 --objects 1000 --bucket big=1000000 --latency 0.08

It prints its URL when it is ready. Each object is a task, ``{"text": <its key>}``.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

PAGE = 1000
CACHED_PAGES = 3000
"""Listing pages that are cached for a bucket, of 200 KB each."""

OLD, NEW = "2026-01-02T03:04:05.000Z", "2026-02-03T04:05:06.000Z"
"""When the objects were modified, and when the extra ones were."""

NEEDS_NO_QUOTING = re.compile(r"[A-Za-z0-9_.~/-]*").fullmatch
"""Match a key that quoting leaves unchanged. Most keys are like that, and `quote` is slow."""


@dataclass(frozen=True)
class NumberedKeys(Sequence[str]):
    """The keys ``objects/000000000.json``, ``objects/000000001.json`` and so on, in order."""

    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        if isinstance(index, slice):
            return [f"objects/{number:09}.json" for number in range(*index.indices(self.length))]
        if index >= self.length:
            raise IndexError(index)
        return f"objects/{index:09}.json"


class WrittenObject(NamedTuple):
    """An object that a client put: its bytes, and when it was modified."""

    body: bytes
    modified: str


class CachedPage(NamedTuple):
    """A response to a listing of the keys after ``after`` through ``through``; None: to the end."""

    after: str
    through: str | None
    response: bytes

    def covers(self, key: str) -> bool:
        return self.after < key and (self.through is None or key <= self.through)


@dataclass
class Store:
    """The objects of one bucket: ``keys`` in byte order, and some ``extra`` ones.

    ``written`` holds the objects that clients put, whether they replace synthetic ones or not.
    """

    keys: Sequence[str]
    extra: list[str] = field(default_factory=list)
    written: dict[str, WrittenObject] = field(default_factory=dict)
    pages: dict[str, CachedPage] = field(default_factory=dict)

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[str], bool]:
        """Return the next ``limit`` keys with a prefix after a key, and whether more follow."""
        merged: list[str] = []
        for keys in (self.keys, self.extra):
            first = bisect.bisect_right(keys, after)
            if after < prefix:
                first = bisect.bisect_left(keys, prefix)
            merged += keys[first : first + limit + 1]
        merged.sort()
        matching = [key for key in merged if key.startswith(prefix)] if prefix else merged
        return matching[:limit], len(matching) > limit

    def body(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        if written := self.written.get(key):
            return written.body
        return content(key) if self.has(key) else None

    def put(self, key: str, body: bytes) -> None:
        """Write an object, and drop the cached pages that cover its key."""
        if not self.has(key):
            bisect.insort(self.extra, key)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.written[key] = WrittenObject(body, now.replace("+00:00", "Z"))
        self.pages = {query: page for query, page in self.pages.items() if not page.covers(key)}

    def listing(self, query: str) -> bytes:
        """Return the response to ListObjectsV2, from the cache if possible."""
        if query not in self.pages:
            if len(self.pages) >= CACHED_PAGES:
                self.pages.pop(next(iter(self.pages)))
            self.pages[query] = listing(self, query)
        return self.pages[query].response

    def has(self, key: str) -> bool:
        """Return whether there is an object."""
        for keys in (self.keys, self.extra):
            index = bisect.bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                return True
        return False


@dataclass(eq=False)
class Stores:
    """All buckets by name, each with ``objects`` objects unless ``sizes`` names another number.

    Buckets in ``missing`` do not exist. Requests to buckets in ``silent`` are never answered.
    """

    objects: int
    extra: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    missing: Iterable[str] = ()
    silent: Iterable[str] = ()
    by_name: dict[str, Store] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Store:
        if name not in self.by_name:
            count = self.sizes.get(name, self.objects)
            self.by_name[name] = Store(NumberedKeys(count), sorted(self.extra))
        return self.by_name[name]


def content(key: str) -> bytes:
    """Return the bytes of a synthetic object."""
    return f'{{"text": {quoted(key)}}}'.encode()


def size(key: str) -> int:
    """Return the size of a synthetic object."""
    return len(quoted(key)) + 10


def etag(key: str) -> str:
    """Return the ETag of a synthetic object."""
    return etag_of(content(key))


def etag_of(body: bytes) -> str:
    """Return an object's ETag as S3 computes it: the MD5 of its bytes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def listing(store: Store, query: str) -> CachedPage:
    """Build the response to ListObjectsV2."""
    params = dict(parse_qsl(query, keep_blank_values=True))
    after = (
        params.get("continuation-token") or params.get("start-after") or params.get("marker", "")
    )
    limit = min(int(params.get("max-keys", PAGE)), PAGE)
    keys, more = store.page(params.get("prefix", ""), after, limit)
    quoting = params.get("encoding-type") == "url"
    as_xml = _quoted if quoting else escape
    extra, written = set(store.extra), store.written
    rows = "".join(
        f"<Contents><Key>{as_xml(key)}</Key><LastModified>"
        f"{written[key].modified if key in written else NEW if key in extra else OLD}"
        f"</LastModified><ETag>&quot;{_etag(store, key)}&quot;</ETag>"
        f"<Size>{len(written[key].body) if key in written else size(key)}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    next_token = (
        f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if more else ""
    )
    response = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"{'<EncodingType>url</EncodingType>' * quoting}"
        f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{next_token}{rows}</ListBucketResult>"
    )
    return CachedPage(after, keys[-1] if more else None, response.encode())


def _etag(store: Store, key: str) -> str:
    return etag_of(store.written[key].body) if key in store.written else etag(key)


def _quoted(key: str) -> str:
    return key if NEEDS_NO_QUOTING(key) else quote(key, safe="/")


def respond(stores: Stores, method: str, target: str, sent: bytes) -> tuple[int, str, bytes]:
    """Return status, headers and body for ``/bucket?list-type=2…`` or ``/bucket/key``."""
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


Respond: TypeAlias = "Callable[[Stores, str, str, bytes], tuple[int, str, bytes]]"
"""What answers a request: of the stores, the method, the target and the body."""

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class HttpConnection(asyncio.Protocol):
    """One client's connection, which answers its requests in order, each after the latency."""

    def __init__(
        self,
        stores: Stores,
        latency: float,
        call_later: Callable[..., object],
        respond: Respond,
    ) -> None:
        self.stores, self.latency, self.call_later = stores, latency, call_later
        self._respond = respond
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the responses."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type alone
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Schedule the response to each request that is complete."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            match = CONTENT_LENGTH.search(head)
            length = int(match[1]) if match else 0
            if len(rest) < length:
                return
            self.received = rest[length:]
            method, target, _version = head.decode().split(" ", 2)
            if target.lstrip("/").partition("?")[0].partition("/")[0] not in self.stores.silent:
                self.call_later(self.latency, self.respond, method, target, rest[:length])

    def respond(self, method: str, target: str, sent: bytes) -> None:
        """Send the response to a request."""
        status, headers, body = self._respond(self.stores, method, target, sent)
        head = f"HTTP/1.1 {status} -\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))


async def serve(stores: Stores, latency: float, port: int, respond: Respond) -> None:
    """Serve on loopback until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HttpConnection(stores, latency, loop.call_later, respond), "127.0.0.1", port
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await server.serve_forever()


def synthetic_s3(
    objects: int, latency: float = 0.0, **options: Sequence[str]
) -> AbstractContextManager[str]:
    """Run this server in a process of its own; yield its URL.

    ``options`` are the other options of the command line, each with its values.
    """
    return synthetic_server("benchmarks.synthetic_s3", objects, latency, **options)


@contextmanager
def synthetic_server(
    module: str, objects: int, latency: float = 0.0, **options: Sequence[str]
) -> Iterator[str]:
    """Run the server of a module in a process of its own; yield its URL."""
    command = [sys.executable, "-m", module, "--objects", str(objects)]
    command += ["--latency", str(latency)]
    for option, values in options.items():
        for value in values:
            command += [f"--{option}", value]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 - for the type alone
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()  # it has no state to save


def main(respond: Respond = respond) -> None:
    """Serve the buckets that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--bucket", action="append", default=[], help="NAME=OBJECTS of a bucket.")
    parser.add_argument("--extra", action="append", default=[], help="An additional key.")
    parser.add_argument(
        "--missing", action="append", default=[], help="A bucket that does not exist."
    )
    parser.add_argument(
        "--silent", action="append", default=[], help="A bucket that never answers."
    )
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each response.")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    buckets = (bucket.partition("=") for bucket in options.bucket)
    sizes = {name: int(count) for name, _, count in buckets}
    stores = Stores(options.objects, options.extra, sizes, options.missing, options.silent)
    asyncio.run(serve(stores, options.latency, options.port, respond))


if __name__ == "__main__":
    main()
