"""Text that strangers may have written: how it is shown, and what can be stored."""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What controls a terminal, ends a line or turns its direction, and half characters."""


def visible(text: str) -> str:
    r"""Return text as one line that controls nothing: with escapes such as ``\x1b`` and ``\n``.

    Backslashes stay, so that a text which is made visible twice is the same.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_text(text: str) -> bool:
    """Return whether every database takes a text: it has no NUL, and UTF-8 can encode it."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # it has half of a surrogate pair, which JSON allows
        return False


def has_escaped_login(url: str) -> bool:
    """Return whether every client finds the same name, password and host in a URL.

    One that does not would show a part of the password as the host.
    """
    login = url.rpartition("@")[0].partition("://")[2]
    return not re.search("[@/?#]", login)


def without_secrets(url: str) -> str:
    """Return a URL without its name, password and options."""
    return without_login(url).partition("?")[0]


def without_login(text: str) -> str:
    """Return a text in which the name and the password of a URL are masked."""
    return re.sub("//.*@", "//***@", text)
