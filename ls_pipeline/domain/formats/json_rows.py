"""Build the rows of JSON texts and JSON Lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ls_pipeline.domain import rows
from ls_pipeline.domain.errors import NotATaskError, NotJSONError
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.tasks import LARGEST_ROW, MOST_PARTS, Refused, Rejection, check_values

if TYPE_CHECKING:
    from collections.abc import Iterator


def lines(body: bytes) -> Iterator[tuple[int, object]]:
    """Yield each line's position and value, which is a `Rejection` if the line is not JSON."""
    for span in rows.lines(body):
        yield span.position, _line(body, span)


def _line(body: bytes, span: rows.Span) -> object:
    try:
        return _value(body, span, since=span.start)
    except NotATaskError as error:
        return Rejection(span.position, str(error))


def items(body: bytes) -> Iterator[tuple[int, object]]:
    """Yield the elements of a JSON list, or what else a JSON text is; each with its position.

    They are built one by one. Raises ``NotATaskError`` where the text stops being JSON.
    """
    if not rows.is_list(body):
        yield 0, _value(body, rows.whole(body))
        return
    last = None
    try:
        for span in rows.elements(body):
            yield span.position, _element(body, span)
            last = span.position
    except NotJSONError as error:
        read = "" if last is None else f" The list was read up to row {last}."
        raise NotATaskError(f"{error}{read}") from None


def _element(body: bytes, span: rows.Span) -> object:
    try:
        return _value(body, span)
    except NotJSONError:
        raise
    except NotATaskError as error:
        return Rejection(span.position, str(error))


def _value(body: bytes, span: rows.Span, since: int = 0) -> object:
    """Build a row. Places in errors count from ``since``."""
    size = span.end - span.start
    if size > LARGEST_ROW:
        raise NotATaskError(f"The row has {size:,} bytes; at most {LARGEST_ROW:,} are read.")
    row = body[span.start : span.end]
    if row.count(b"[") + row.count(b"{") + row.count(b'"') // 2 > MOST_PARTS:  # those in texts, too
        parts = rows.count_parts(row)
        if parts > MOST_PARTS:
            raise NotATaskError(
                f"The row has {parts:,} lists, objects and texts; at most {MOST_PARTS:,} are read."
            )
    text = row.decode()
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        at = span.start + len(text[: error.pos].encode())
        raise NotJSONError(error.msg, rows.place(body, at, since)) from None
    except RecursionError:
        raise NotATaskError("The JSON is nested too deep.") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise NotATaskError(f"Not JSON that can be stored: {error}.") from None
    check_values(value)
    return value


def _members(pairs: list[tuple[str, object]]) -> object:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    names = set[str]()
    for name, _ in pairs:
        if name in names:
            return Refused(f"The key {quoted(name)} appears twice in one JSON object.")
        names.add(name)
    return members


def _constant(name: str) -> object:
    return Refused(f"{name} is not JSON.")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant)
