"""What a listing says of an object, and which objects a connection's params select."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import re2

if TYPE_CHECKING:
    from datetime import datetime


class StoredObject(NamedTuple):
    """One object of a bucket, as a listing tells it. A tuple: there may be millions.

    ``version`` is the ETag on S3 (without quotes) and the generation on GCS: the same key
    with the same version has the same content. ``size`` is in bytes. ``modified`` informs
    people; nothing is decided by it.
    """

    key: str
    version: str
    size: int
    modified: datetime | None = None


def folder(prefix: str) -> str:
    """Give the key prefix that a ``prefix`` param stands for: a folder, ``""`` for the bucket.

    ``images`` and ``images/`` both select ``images/…`` and never ``images-old/…``.
    """
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def prefix_end(prefix: str) -> str:
    """Give the smallest text after all that starts with ``prefix``; empty when nothing is."""
    before = prefix.rstrip("\U0010ffff")
    if not before:
        return ""
    last = before[-1]
    return before[:-1] + ("\ue000" if last == "\ud7ff" else chr(ord(last) + 1))


def overlap(one: str, other: str) -> bool:
    """Tell whether two ``prefix`` params select objects in common."""
    one, other = folder(one), folder(other)
    return one.startswith(other) or other.startswith(one)


@dataclass(frozen=True)
class Filter:
    """Which keys a connection's ``prefix`` and ``regex`` select.

    ``regex`` is RE2 (linear time), matched from the start of the full key, not to its end;
    empty selects every key. Folder markers (keys that end in ``/``) are never selected.

    Raises ``re2.error`` at the first use when ``regex`` is no RE2 expression; connections
    are checked for that when they are stored.
    """

    prefix: str = ""
    regex: str = ""

    @property
    def folder(self) -> str:
        return folder(self.prefix)

    @cached_property
    def _pattern(self) -> re2._Regexp:
        return compile_regex(self.regex)

    def rejected_by(self, key: str) -> str:
        """Name the filter that leaves ``key`` out: ``prefix``, ``folder``, ``regex`` or ``""``."""
        if not key.startswith(self.folder):
            return "prefix"
        if key.endswith("/"):
            return "folder"
        if self.regex and not self._pattern.match(key):
            return "regex"
        return ""


def compile_regex(regex: str) -> re2._Regexp:
    """Compile an RE2 expression.

    Raises ``re2.error`` with RE2's reason; RE2 itself is kept from printing it, too.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(regex, options=options)


def uri(scheme: str, bucket: str, key: str) -> str:
    """Give an object's URI, the key as it is: ``s3://bucket/key``, ``gs://bucket/key``."""
    return f"{scheme}://{bucket}/{key}"
