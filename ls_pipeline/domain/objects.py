"""What a listing contains, and which objects a connection's params select."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import re2

if TYPE_CHECKING:
    from datetime import datetime


class StoredObject(NamedTuple):
    """An object in a listing. A tuple, because there may be millions.

    ``version`` is the ETag on S3 (without quotes) and the generation on GCS: the same key with the
    same version has the same content. ``size`` is in bytes. ``modified`` is for people only.
    """

    key: str
    version: str
    size: int
    modified: datetime | None = None


def folder(prefix: str) -> str:
    """Return the key prefix that a ``prefix`` param means: a folder, or ``""`` for the bucket.

    ``images`` and ``images/`` both select ``images/…`` and never ``images-old/…``.
    """
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


_LOST_IN_A_URL = re.compile(r"^/|[?\t\r\n]")


def opens_in_browsers(key: str) -> bool:
    """Return whether Label Studio finds an object by its URI, which it takes apart as a URL.

    It takes what follows a ``?`` for a query, and drops slashes at the start and line breaks.
    """
    return not _LOST_IN_A_URL.search(key)


def prefix_end(prefix: str) -> str:
    """Return the smallest text after all that starts with ``prefix``; empty if none exists."""
    shortened = prefix.rstrip("\U0010ffff")
    if not shortened:
        return ""
    last = shortened[-1]
    return shortened[:-1] + ("\ue000" if last == "\ud7ff" else chr(ord(last) + 1))


def overlap(prefix: str, other: str) -> bool:
    """Return whether two ``prefix`` params select objects in common."""
    prefix, other = folder(prefix), folder(other)
    return prefix.startswith(other) or other.startswith(prefix)


class ListedKeys(Protocol):
    """The keys that a manifest lists, in one version of it."""

    version: str

    def __contains__(self, key: str) -> bool: ...

    @property
    def is_whole(self) -> bool:
        """Whether it could be read to its end."""


@dataclass(frozen=True)
class Filter:
    """The keys that a connection's ``prefix``, ``regex`` and ``exclude`` select.

    ``regex`` and ``exclude`` are RE2 (linear time), matched from the start of the full key, not to
    its end. An empty ``regex`` selects every key, and an empty ``exclude`` rejects none. Folder
    markers (keys that end in ``/``) are never selected. Sidecars, by their suffix, are selected
    whatever the ``regex`` is. With a ``manifest``, only keys that it lists are selected.

    The first use raises ``re2.error`` if one is not RE2. Stored connections were checked.
    """

    prefix: str = ""
    regex: str = ""
    exclude: str = ""
    sidecar_suffix: str = ""
    manifest: ListedKeys | None = None

    @property
    def folder(self) -> str:
        return folder(self.prefix)

    @cached_property
    def _pattern(self) -> re2._Regexp:
        return compile_regex(self.regex)

    @cached_property
    def _excluded(self) -> re2._Regexp:
        return compile_regex(self.exclude)

    @property
    def text(self) -> str:
        """The filter as one text, which differs if anything in it differs."""
        version = self.manifest.version if self.manifest else ""
        return f"{self.folder}\n{self.regex}\n{self.exclude}\n{self.sidecar_suffix}\n{version}"

    def rejected_by(self, key: str) -> str:
        """Return what rejects ``key``, or ``""`` if it is selected.

        It is the name of a param (``prefix``, ``regex``, ``exclude`` or ``manifest``), or
        ``folder``.
        """
        if not key.startswith(self.folder):
            return "prefix"
        if key.endswith("/"):
            return "folder"
        if self.regex and not self.is_sidecar(key) and not self._pattern.match(key):
            return "regex"
        if self.exclude and self._excluded.match(key):
            return "exclude"
        if self.manifest is not None and key not in self.manifest:
            return "manifest"
        return ""

    def takes_away(self, key: str) -> bool:
        """Return whether the manifest surely does not list a key, so that it counts as removed."""
        manifest = self.manifest
        return manifest is not None and key not in manifest and manifest.is_whole

    def is_sidecar(self, key: str) -> bool:
        """Return whether a key is that of a sidecar."""
        return bool(self.sidecar_suffix) and key.endswith(self.sidecar_suffix)


def compile_regex(regex: str) -> re2._Regexp:
    """Compile an RE2 expression, without RE2's log lines.

    Raises ``re2.error`` with RE2's reason.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(regex, options=options)


def uri(scheme: str, bucket: str, key: str) -> str:
    """Return an object's URI, the key unquoted: ``s3://bucket/key``, ``gs://bucket/key``."""
    return f"{scheme}://{bucket}/{key}"
