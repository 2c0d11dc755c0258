"""The manifest of a source: which keys of the listing count, and what else their tasks have."""

from __future__ import annotations

import hashlib
import os
import weakref
from array import array
from dataclasses import replace
from functools import cached_property
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from ls_pipeline.domain.completions import sha256_hex
from ls_pipeline.domain.errors import BucketError, NotATaskError, SettingsMismatchError
from ls_pipeline.domain.formats.objects import BROKEN_GZIP, GZIP, unpacked
from ls_pipeline.domain.manifests import Line, parse_line
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.rows import BYTE_ORDER_MARK
from ls_pipeline.domain.sidecars import LARGEST as LARGEST_LINE
from ls_pipeline.domain.sidecars import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    import numpy.typing as npt

    from ls_pipeline.domain.objects import Filter, StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.params import SourceParams

LARGEST = 2**30
"""Bytes of a manifest, also decompressed."""

_CHUNK = 2**20


def filter_of(bucket: Bucket, params: SourceParams) -> Filter:
    """Return a source's filter, with the present version of its manifest if it has one.

    Raises ``BucketError`` if the manifest does not exist.
    """
    return replace(params.filter, manifest=manifest_of(bucket, params))


def manifest_of(bucket: Bucket, params: SourceParams) -> Manifest | None:
    """Return the present version of a source's manifest, if it has one.

    Raises ``BucketError`` if the manifest does not exist.
    """
    return Manifest(bucket, params) if params.manifest else None


def read_as(params: SourceParams, manifest: Manifest | None) -> str:
    """Return how the objects get what else their tasks have, as the ledger records it."""
    return read_by(manifest.key, manifest.version) if manifest else params.sidecar_suffix


def read_by(key: str, version: str = "") -> str:
    """Return what `read_as` does for a version of a manifest; without one, how it begins."""
    return f"{key}\n{version}"


class Manifest:
    """One version of a manifest, which is read when it is asked for a key.

    Its lines stay in a temporary file without a name; memory holds 25 bytes for each.

    What asks for a key raises ``SettingsMismatchError`` if the manifest can't be used at all.
    """

    def __init__(self, bucket: Bucket, params: SourceParams) -> None:
        self._bucket, self._params = bucket, params
        self._stored = _find(bucket, params.manifest)
        self.key, self.version = self._stored.key, self._stored.version
        self.uri = bucket.uri(self.key)

    def __contains__(self, key: str) -> bool:
        index = self._lines.find(key)
        if index >= 0:
            self._lines.seen[index] = True
        return index >= 0

    @property
    def is_whole(self) -> bool:
        """Whether all lines can be read, so that a key that is not listed is surely left out."""
        return not self._lines.bad

    @property
    def error(self) -> str:
        """What a person has to correct; empty if all lines can be read."""
        if not self._lines.bad:
            return ""
        more = self._lines.bad - 1
        others = f" {more:,} more lines can't be read either." if more else ""
        return (
            f"{self._lines.first_bad}{others} Correct the manifest: until then, objects that it "
            "does not list count as unchanged."
        )

    def unseen(self) -> tuple[int, str]:
        """Return how many keys were never asked for, and the first of them."""
        indexes = np.flatnonzero(~self._lines.seen)
        first = self._parsed(self._lines.read(int(indexes[0]))).key if len(indexes) else ""
        return len(indexes), first

    def sidecar(self, key: str) -> Sidecar:
        """Return what the line of a key says; without a version if it only names the object."""
        index = self._lines.find(key)
        line = self._parsed(self._lines.read(index)) if index >= 0 else Line(key, {})
        version = sha256_hex(line.text.encode())[:32] if line.form else ""
        return Sidecar(self.key, version, line.form)

    @cached_property
    def _lines(self) -> _Lines:
        if self._stored.size > LARGEST:
            raise self._too_large()
        file = self._new_file()
        self._bucket.download(self._stored, file)
        file.seek(0)
        if file.read(len(GZIP)) == GZIP:
            file = self._decompressed(file)
        lines = _Lines(file)
        for number, offset, line in _cut(file):
            try:
                lines.add(self._parsed(line).key, offset, len(line))
            except NotATaskError as error:  # noqa: PERF203 - it does not stop the other lines
                lines.reject(f"Line {number:,} of the manifest {self.uri} can't be read: {error}")
        for index in lines.finish():
            key = self._parsed(lines.read(index)).key
            lines.reject(f"The manifest {self.uri} lists {quoted(key)} twice, with other data.")
        if not len(lines):
            raise SettingsMismatchError(
                f"The manifest {self.uri} lists no keys. {lines.first_bad}".strip(),
                hint="Correct it, or take it out of the param manifest.",
            )
        return lines

    def _parsed(self, line: bytes) -> Line:
        parsed = parse_line(line, self._bucket.uri(), self._params.data_key)
        if parsed.form and not self._params.fills_one_key:
            raise NotATaskError("Task data needs use_blob_urls, or the format text.")
        return parsed

    def _new_file(self) -> BinaryIO:
        """Return a temporary file that is closed with the manifest."""
        file = TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, file.close)
        return file

    def _too_large(self) -> SettingsMismatchError:
        return SettingsMismatchError(
            f"The manifest {self.uri} has over {LARGEST:,} bytes; no more are read.",
            hint="Split it, and make a connection for each part.",
        )

    def _decompressed(self, file: BinaryIO) -> BinaryIO:
        file.seek(0)
        whole = self._new_file()
        try:
            with unpacked(file) as source:
                while chunk := source.read(_CHUNK):
                    whole.write(chunk)
                    if whole.tell() > LARGEST:
                        raise self._too_large()
        except BROKEN_GZIP as error:
            raise SettingsMismatchError(
                f"The gzip data of the manifest {self.uri} can't be read: {error}.",
                hint="Upload it again.",
            ) from None
        except NotATaskError as error:
            raise SettingsMismatchError(f"The manifest {self.uri}: {error}") from None
        return whole


def _find(bucket: Bucket, key: str) -> StoredObject:
    found = bucket.find(key)
    if found is None:
        raise BucketError(
            bucket.uri(key), "the manifest does not exist.", hint="Upload it, or correct the param."
        )
    return found


class _Lines:
    """The lines of a manifest in a file, found by their keys.

    Two keys with one hash would count as one. With 64 bits of a hash that is another in each
    process, that does not happen by accident, and can't be brought about.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._secret = os.urandom(16)
        self._hashes, self._offsets, self._lengths = array("Q"), array("q"), array("i")
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.seen: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        """By index, whether a key was asked for."""
        self.bad = 0
        self.first_bad = ""
        """What can't be used, and why, in a sentence."""

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str, offset: int, length: int) -> None:
        self._hashes.append(self._hash(key))
        self._offsets.append(offset)
        self._lengths.append(length)

    def reject(self, reason: str) -> None:
        self.bad += 1
        self.first_bad = self.first_bad or reason

    def finish(self) -> list[int]:
        """Sort the lines; return the indexes of those that list an earlier key with other data."""
        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else self._sorted
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        self.seen = np.zeros(len(hashes), np.bool_)
        places = np.flatnonzero(self._sorted[1:] == self._sorted[:-1]).tolist()
        pairs = [(int(self._order[place]), int(self._order[place + 1])) for place in places]
        self.seen[[later for _, later in pairs]] = True
        return [later for first, later in pairs if self.read(first) != self.read(later)]

    def find(self, key: str) -> int:
        """Return the index of the first line with a key, or -1."""
        wanted = np.uint64(self._hash(key))
        place = int(np.searchsorted(self._sorted, wanted))
        is_there = place < len(self._sorted) and self._sorted[place] == wanted
        return int(self._order[place]) if is_there else -1

    def read(self, index: int) -> bytes:
        """Return a line. Safe in several threads."""
        return os.pread(self._file.fileno(), self._lengths[index], self._offsets[index])

    def _hash(self, key: str) -> int:
        digest = hashlib.blake2b(key.encode(), digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest, "little")


def _cut(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, the offset and the content of each line that is not blank.

    Of a line that is too long, only its start is read.
    """
    file.seek(0)
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(0)
    number, offset = 0, file.tell()
    while part := file.readline(LARGEST_LINE + 2):
        number, end = number + 1, offset + len(part)
        rest = part
        while not rest.endswith(b"\n") and (rest := file.readline(_CHUNK)):
            end += len(rest)
        line = part.rstrip(b"\r\n")
        if line.strip():
            yield number, offset, line
        offset = end
