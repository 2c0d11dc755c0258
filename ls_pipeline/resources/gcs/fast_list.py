"""Fast listings of GCS: Google's requests, with a parser of our own.

For a page of 1,000 keys Google's client makes 1,000 objects of its own, which takes 25 ms of
processor time. This module takes 2 ms, and less if only the page's fingerprint is wanted.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.listing import ListingPage

FIELDS = "kind,items(name,generation,size,updated),nextPageToken"

_ITEMS = re.compile(rb'"items"\s*:\s*\[\s*')
_BETWEEN = re.compile(rb"\s*,\s*")
_DECODER = json.JSONDecoder()

_stored_object = partial(tuple.__new__, StoredObject)
"""`StoredObject` without a call in Python: there may be millions."""


def parse_listing(body: bytes, after: str) -> ListingPage:
    """Parse an answer to ``objects.list``; its objects are parsed when they are read.

    A listing from ``startOffset`` begins with the key ``after`` itself, if it exists. It is left
    out of the objects and of the fingerprint.

    Raises ``ValueError`` if it is another document or incomplete; so does reading its objects. A
    truncated answer, or a proxy's page, must not pass for the end of a listing: objects that are
    merely not listed would be taken for removed.
    """
    first, end = _ITEMS.search(body), body.rfind(b"]")
    if first and first.end() <= end:
        items, frame = body[first.end() : end].rstrip(), body[: first.end()] + body[end:]
    else:
        items, frame = b"", body
    try:
        token = _token_of(json.loads(frame))
    except ValueError:  # what looks like the end of the items is in the token, for example
        token, items = _token_of(json.loads(body)), b""
    return ListingPage(token, partial(_read, body, after), _fingerprint(items, after))


def _token_of(answer: Any) -> str:
    if not isinstance(answer, dict) or not {"kind", "items"} & set(answer):
        raise ValueError("another document")
    return str(answer.get("nextPageToken") or "")


def _fingerprint(items: bytes, after: str) -> str:
    """Return a hash of the items as they were written, without that of the key ``after``.

    Empty if the items begin before it, as an emulator's do.
    """
    if not items:
        return ""
    start = 0
    if after:
        name, end = _first(items)
        if name < after:
            return ""
        if name == after:
            between = _BETWEEN.match(items, end)
            start = between.end() if between else len(items)
    rest = memoryview(items)[start:]
    return blake2b(rest, digest_size=16).hexdigest() if rest else ""


def _first(items: bytes) -> tuple[str, int]:
    """Return the name of the first item, and where it ends. Raises ``ValueError``."""
    for size in (4096, len(items)):
        text = items[:size].decode(errors="ignore" if size < len(items) else "strict")
        try:
            item, end = _DECODER.raw_decode(text)
        except ValueError:
            if size >= len(items):
                raise
        else:
            break
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError("an item without a name")  # noqa: TRY004 - no caller cares which
    return item["name"], len(text[:end].encode())


def _read(body: bytes, after: str) -> list[StoredObject]:
    items = json.loads(body).get("items") or ()
    try:
        fields = [
            (item["name"], str(item["generation"]), int(item["size"]), item.get("updated", ""))
            for item in items
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    if fields and fields[0][0] <= after:
        fields = [row for row in fields if row[0] > after]
    names, generations, sizes, times = zip(*fields, strict=True) if fields else ((),) * 4
    return list(map(_stored_object, zip(names, generations, sizes, _times(times), strict=True)))


def _times(texts: tuple[str, ...]) -> list[datetime | None]:
    """Parse times in Google's form; None in any other form, since they only inform people."""
    if sys.version_info < (3, 11):  # which does not parse the Z
        texts = tuple(text.replace("Z", "+00:00") for text in texts)
    try:
        return list(map(datetime.fromisoformat, texts))
    except ValueError:
        return [None] * len(texts)
