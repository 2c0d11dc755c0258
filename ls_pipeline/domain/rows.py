"""Cut an object's content into rows, without building any.

Each function goes through the bytes once and keeps nothing, so that time grows with the size of an
object, and memory does not, whatever it contains.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.errors import NotATaskError, NotJSONError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 2**20

_SPACE = re.compile(rb"[ \t\n\r]*")
_NOT_SPACE = re.compile(rb"[^ \t\n\r\x0b\x0c]")

_IN_LIST = re.compile(rb'["\[\]{},]')
_IN_ROW = re.compile(rb'["\[\]{}]')
_PART = re.compile(rb'["\[{]')
_QUOTE, _COMMA, _CLOSING, _BACKSLASH = b'",]\\'
_OPENING = b"[{"
_CONTINUATION = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that continue a character."""


BYTE_ORDER_MARK = codecs.BOM_UTF8
"""What some programs write before UTF-8; it says nothing."""


class Span(NamedTuple):
    """Where a row is in an object's content."""

    position: int
    """Counted from 0."""
    start: int
    end: int


def check_byte_order(body: bytes) -> None:
    """Raise ``NotATaskError`` if a content is UTF-16, by its byte order mark."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotATaskError("The object is UTF-16, by its byte order mark; store it as UTF-8.")


def check_text(body: bytes) -> None:
    """Raise ``NotATaskError`` if a content is empty or not UTF-8."""
    if not body or body.isspace():
        raise NotATaskError("The object is empty.")
    at = len(body) if body.isascii() else 0
    while at < len(body):
        chunk, is_last = body[at : at + _CHUNK], at + _CHUNK >= len(body)
        try:
            at += codecs.utf_8_decode(chunk, "strict", is_last)[1]
        except UnicodeDecodeError as error:
            byte = at + error.start
            raise NotATaskError(f"The object is not UTF-8: byte {byte} can't be read.") from None


def lines(body: bytes) -> Iterator[Span]:
    """Yield the lines that are not blank."""
    number = start = 0
    while text := _NOT_SPACE.search(body, start):
        number += body.count(b"\n", start, text.start())
        start = max(body.rfind(b"\n", start, text.start()) + 1, start)
        end = body.find(b"\n", text.start())
        end = len(body) if end < 0 else end
        yield Span(number, start, end)
        number, start = number + 1, end + 1


def may_be_json(body: bytes) -> bool:
    """Return whether a content starts as a JSON list or object does, or is empty."""
    start = _skip_space(body, 0)
    return start == len(body) or body[start] in _OPENING


def has_values_in_lines(body: bytes) -> bool:
    """Return whether a content is JSON Lines: its first line is an object, and more follow."""
    start = _skip_space(body, 0)
    if not body.startswith(b"{", start):
        return False
    end = _object_end(body, start)
    rest = _skip_space(body, end)
    is_line = body.find(b"\n", start, end) < 0
    return is_line and rest < len(body) and body.find(b"\n", end, rest) >= 0


def _object_end(body: bytes, start: int) -> int:
    """Return the position after the bracket that closes the one at ``start``."""
    depth, position = 0, start
    while token := _IN_ROW.search(body, position):
        position = token.end()
        character = body[position - 1]
        if character == _QUOTE:
            position = _string_end(body, position)
        else:
            depth += 1 if character in _OPENING else -1
            if not depth:
                return position
    return len(body)


def is_list(body: bytes) -> bool:
    """Return whether a JSON text is a list, if it is JSON at all."""
    return body.startswith(b"[", _skip_space(body, 0))


def whole(body: bytes) -> Span:
    """Return a content without the space around it, as one row."""
    end = len(body)
    while end and not (tail := body[max(end - _CHUNK, 0) : end].rstrip(b" \t\n\r")):
        end = max(end - _CHUNK, 0)
    return Span(0, _skip_space(body, 0), max(end - _CHUNK, 0) + len(tail))


def elements(body: bytes) -> Iterator[Span]:
    """Yield the elements of a JSON list, found by brackets, quotes and commas.

    The elements themselves are not checked. If all elements so far are JSON, the next one's place
    is right.

    Raises ``NotATaskError`` if the list is empty, and ``NotJSONError`` if it stops being one.
    """
    start = position = _skip_space(body, 0) + 1
    row = depth = 0
    while token := (_IN_ROW if depth else _IN_LIST).search(body, position):
        position = token.end()
        character = body[position - 1]
        if character == _QUOTE:
            position = _string_end(body, position)
        elif character in _OPENING:
            depth += 1
        elif depth:
            depth -= 1
        elif character == _COMMA:
            yield Span(row, _skip_space(body, start), position - 1)
            row, start = row + 1, position
        else:
            break
    else:
        yield Span(row, _skip_space(body, start), len(body))
        raise NotJSONError("Expecting ',' delimiter", place(body, len(body)))
    end, start = position - 1, _skip_space(body, start)
    if character == _CLOSING and not row and start == end:
        raise NotATaskError("The object is an empty list.")
    yield Span(row, start, end)
    if character != _CLOSING:
        raise NotJSONError("Expecting ',' delimiter", place(body, end))
    if (rest := _skip_space(body, position)) < len(body):
        raise NotJSONError("Extra data", place(body, rest))


def count_parts(row: bytes) -> int:
    """Count the lists, objects and strings of a row, keys included: built, each takes memory."""
    count = position = 0
    while part := _PART.search(row, position):
        position = part.end()
        if row[position - 1] == _QUOTE:
            position = _string_end(row, position)
        count += 1
    return count


def place(body: bytes, at: int, since: int = 0) -> str:
    """Return the line and the column of a byte, counted in characters from the start of a line."""
    start = max(body.rfind(b"\n", since, at) + 1, since)
    column = 1
    for chunk_start in range(start, at, _CHUNK):
        chunk = body[chunk_start : min(chunk_start + _CHUNK, at)]
        column += len(chunk.translate(None, _CONTINUATION))
    line = body.count(b"\n", since, at) + 1
    return f"line {line}, column {column}"


def _skip_space(body: bytes, position: int) -> int:
    space = _SPACE.match(body, position)
    return space.end() if space else position


def _string_end(body: bytes, position: int) -> int:
    """Return the position after a string's closing quote; the end of the content without one."""
    while (quote := body.find(b'"', position)) >= 0:
        text_end = quote
        while text_end > position and body[text_end - 1] == _BACKSLASH:
            text_end -= 1
        position = quote + 1
        if (quote - text_end) % 2 == 0:
            return position
    return len(body)
