"""How the output names a task's pictures and recordings, and what is known of their files."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ls_pipeline.domain.converters.geometry import Size

STEM_BYTES, ENDING_BYTES = 160, 20
"""Bytes of a file name's parts: file systems take 255 of a name, with its prefixes."""

IMAGES, AUDIO = "images", "audio"
"""Folders of an output."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A picture or recording of an output."""

    path: str
    """Its path in the output, which is `is_there` or could be put there."""
    is_there: bool = False
    size: Size | None = None
    """Of a picture, as it is shown: turned as its EXIF data says."""
    seconds: float | None = None
    """Of a recording."""


class Media(Protocol):
    """Decides where pictures and recordings are in the output."""

    def file(self, uri: str, folder: str, name: str) -> MediaFile:
        """Return the file of an object. ``folder`` is `IMAGES` or `AUDIO`.

        ``name`` is distinct in the whole output. Each object is asked for once for each name.
        """


class NoMedia:
    """Puts nothing into the output."""

    def file(self, uri: str, folder: str, name: str) -> MediaFile:
        del uri
        return MediaFile(f"{folder}/{name}")


def file_name(uri: str, *prefixes: Any) -> str:
    """Return a file name for an object: prefixes, and the end of its address."""
    address = uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri
    if address.startswith("data:"):
        address = f"inline.{address.partition(';')[0].rpartition('/')[2]}"
    parts = [plain(str(each)) for each in prefixes]
    return "-".join([*parts, plain(posixpath.basename(address.rstrip("/")))])


def plain(name: str) -> str:
    """Return a file name that every system accepts."""
    stem, ending = posixpath.splitext(re.sub(r"[^\w.-]", "_", name))
    return f"{shortened(stem[:80], STEM_BYTES)}{shortened(ending[:20], ENDING_BYTES)}"


def shortened(text: str, most: int) -> str:
    """Return the start of a text, of at most a number of bytes."""
    return text.encode()[:most].decode(errors="ignore")
