"""The path of an object's local file: inside its folder, and unique, whatever the key."""

from __future__ import annotations

import hashlib
import re

LONGEST_PLAIN = 200
"""The most characters of a key that is its own path."""

LONGEST_PART = 60
"""The characters kept of each part of any other key."""

DEEPEST = 3
"""The folders kept of any other key."""

_PLAIN = re.compile(r"([a-z0-9_-]+/)*[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
"""Windows treats a file with such a name, with any extension, as a device."""


def local_path(key: str) -> str:
    """Return the relative path of an object's local file, with ``/`` between its parts.

    A plain key (lower-case ASCII, with an extension) is its own path. Any other key becomes a
    recognisable name with a hash of the key: ``Cats/IMG 1.JPG`` → ``Cats/IMG_1~<hash>.JPG``.

    Two keys never share a file, even if the disk ignores case or Unicode normalization. No file
    blocks another's folder: a folder has no ``.`` and no ``~``, a plain file has a ``.``, and any
    other file has a ``~``.
    """
    return key if _is_plain(key) else _hashed_path(key)


def _is_plain(key: str) -> bool:
    if len(key) > LONGEST_PLAIN or not _PLAIN.fullmatch(key):
        return False
    return not any(_RESERVED.fullmatch(part.partition(".")[0]) for part in key.split("/"))


def _hashed_path(key: str) -> str:
    *folders, name = key.split("/")
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = extension, ""
    # 128 bits: an attacker who chooses keys can't find two with the same hash.
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    suffix = f".{_portable(extension)}" if _portable(extension) != "_" else ""
    return "/".join([*map(_folder, folders[:DEEPEST]), f"{_portable(stem)}~{digest}{suffix}"])


def _folder(part: str) -> str:
    name = _portable(part)
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def _portable(part: str) -> str:
    """Keep the characters that every disk accepts; replace the others by ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", part)[:LONGEST_PART] or "_"
