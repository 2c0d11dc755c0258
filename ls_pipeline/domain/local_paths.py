"""The name of an object's local file: inside its folder, and nobody else's, whatever the key."""

from __future__ import annotations

import hashlib
import re

LONGEST_PLAIN = 200
"""Characters of a key that may be its own file name."""

LONGEST_PART = 60
"""Characters that are kept of a part of any other key."""

DEEPEST = 3
"""Folders that are kept of any other key."""

_PLAIN = re.compile(r"([a-z0-9_-]+/)*[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
"""Windows takes a file of such a name, with any ending, for a device."""


def local_path(key: str) -> str:
    """Give the relative path of an object's local file, with ``/`` between its parts.

    A plain key (lower-case ASCII, an ending) is its own path. Any other becomes a name that
    a person still recognises, with a hash of the key: ``Cats/IMG 1.JPG`` →
    ``Cats/IMG_1~<hash>.JPG``.

    Two keys never share a file, also where the disk ignores case or the form of Unicode, and
    no key's file is in the way of another's folder: a folder has no ``.`` and no ``~``, a
    plain file a ``.``, any other a ``~``.
    """
    return key if _is_plain(key) else _hashed(key)


def _is_plain(key: str) -> bool:
    if len(key) > LONGEST_PLAIN or not _PLAIN.fullmatch(key):
        return False
    return not any(_RESERVED.fullmatch(part.partition(".")[0]) for part in key.split("/"))


def _hashed(key: str) -> str:
    *folders, name = key.split("/")
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = ending, ""
    # 128 bits: whoever may choose keys can't choose two with one hash.
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    file = f"{_kept(stem)}~{digest}" + (f".{_kept(ending)}" if _kept(ending) != "_" else "")
    return "/".join([*(_folder(one) for one in folders[:DEEPEST]), file])


def _folder(part: str) -> str:
    kept = _kept(part)
    return f"{kept}_" if _RESERVED.fullmatch(kept) else kept


def _kept(part: str) -> str:
    """Keep what every disk takes; the rest becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", part)[:LONGEST_PART] or "_"
