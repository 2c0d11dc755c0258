"""A bucket server that costs less than what is measured: it makes up its objects.

S3's ListObjectsV2 (prefix, start-after, continuation-token, max-keys, encoding-type), what is alike
in ListObjects, and GetObject, over one bucket with any number of objects. Each answer waits for a
latency, all at the same time. It checks no signature.

    python -m benchmarks.list_server --objects 1000000 --latency 0.08

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
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 1000
KEPT = 3000
"""Pages, of 200 KB each, that are made up once: they cost nothing while others are measured."""

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


@dataclass(eq=False)
class Store:
    """The objects of one bucket: ``keys`` in the order of their bytes, and some ``extra`` ones."""

    keys: Sequence[str]
    extra: list[str] = field(default_factory=list)

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
        for keys in (self.keys, self.extra):
            at = bisect.bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                return content(key)
        return None


def content(key: str) -> bytes:
    """Give the bytes of the object of this key, if there is one."""
    return f'{{"text": {quoted(key)}}}'.encode()


def etag(key: str) -> str:
    """Give the version of an object as S3 does: the MD5 of its bytes."""
    return hashlib.md5(content(key), usedforsecurity=False).hexdigest()


@lru_cache(KEPT)
def listing(store: Store, query: str) -> bytes:
    """Answer ListObjectsV2."""
    asked = dict(parse_qsl(query, keep_blank_values=True))
    after = asked.get("continuation-token") or asked.get("start-after") or asked.get("marker", "")
    limit = min(int(asked.get("max-keys", PAGE)), PAGE)
    keys, more = store.page(asked.get("prefix", ""), after, limit)
    quoting = asked.get("encoding-type") == "url"
    as_xml = _quoted if quoting else escape
    rows = "".join(
        f"<Contents><Key>{as_xml(key)}</Key><LastModified>{OLD}</LastModified>"
        f"<ETag>&quot;{etag(key)}&quot;</ETag><Size>{len(quoted(key)) + 10}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    for key in store.extra:
        row = f"<Key>{as_xml(key)}</Key><LastModified>"
        rows = rows.replace(row + OLD, row + NEW)
    token = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"{'<EncodingType>url</EncodingType>' * quoting}"
        f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
    ).encode()


def _quoted(key: str) -> str:
    return key if PLAIN(key) else quote(key, safe="/")


def answer(store: Store, target: str) -> tuple[int, str, bytes]:
    """Answer a GET of ``/bucket?list-type=2…`` or ``/bucket/key``: status, headers, body."""
    path, _, query = target.partition("?")
    key = unquote(path).partition("/")[2].partition("/")[2]
    if not key:
        return 200, "Content-Type: application/xml\r\n", listing(store, query)
    body = store.body(key)
    if body is None:
        return 404, "", b"<Error><Code>NoSuchKey</Code></Error>"
    return 200, f'ETag: "{etag(key)}"\r\nContent-Type: application/json\r\n', body


class Link(asyncio.Protocol):
    """One client's connection: its requests one after the other, each after the latency."""

    def __init__(self, store: Store, latency: float, later: Callable[..., object]) -> None:
        self.store, self.latency, self.later = store, latency, later
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to answer to."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type alone
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request when its head is there; a GET has no body."""
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, self.read = self.read.partition(b"\r\n\r\n")
            method, target, _rest = head.decode().split(" ", 2)
            self.later(self.latency, self.answer, method, target)

    def answer(self, method: str, target: str) -> None:
        """Send the answer."""
        status, headers, body = answer(self.store, target)
        head = f"HTTP/1.1 {status} -\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))


async def serve(store: Store, latency: float, port: int) -> None:
    """Serve on loopback for good."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Link(store, latency, loop.call_later), "127.0.0.1", port
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await server.serve_forever()


def main() -> None:
    """Serve what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--extra", action="append", default=[], help="A key more; may be repeated.")
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each answer.")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    store = Store(Numbered(asked.objects), sorted(asked.extra))
    asyncio.run(serve(store, asked.latency, asked.port))


if __name__ == "__main__":
    main()
