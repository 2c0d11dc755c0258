"""From an object (and its body) to tasks, or to a precise rejection."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from ls_pipeline.domain.errors import NotATaskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

META_KEY = "ls_pipeline"
"""Where a task's ``meta`` says which object it came from."""

LARGEST_OBJECT = 100 * 2**20
"""Bytes; a larger object is no task. Label Studio takes no request over 250 MiB."""

DEEPEST = 100
"""Levels of nesting; no label config needs more, and Label Studio recurses over them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task came from; ``(uri, row)`` is its identity.

    ``row`` counts from 0 inside the object: the position in a JSON list, the line of a
    JSONL file, 0 for a single task.
    """

    connection: str
    uri: str
    version: str
    row: int

    def as_meta(self) -> dict[str, Any]:
        """Give it as a task's ``meta`` carries it."""
        return {
            "connection": self.connection,
            "uri": self.uri,
            "version": self.version,
            "row": self.row,
        }


def parse_origin(meta: object) -> Origin | None:
    """Read back what `Origin.as_meta` wrote; None for a task that is not ours."""
    mine = meta.get(META_KEY) if isinstance(meta, dict) else None
    try:
        return Origin(mine["connection"], mine["uri"], mine["version"], int(mine["row"]))  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Task:
    """What Label Studio shows an annotator: one row of an object, checked."""

    row: int
    data: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    annotations: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()

    def as_import(self, origin: Origin) -> dict[str, Any]:
        """Give the body of Label Studio's import call, its ``meta`` naming the origin."""
        body: dict[str, Any] = {
            "data": self.data,
            "meta": {**self.meta, META_KEY: origin.as_meta()},
        }
        if self.annotations:
            body["annotations"] = list(self.annotations)
        if self.predictions:
            body["predictions"] = list(self.predictions)
        return body


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row, or with ``row`` None the whole object, can't become a task."""

    row: int | None
    reason: str


def data_keys(label_config: str) -> tuple[str, ...]:
    """List the keys of task data that a label config shows, in document order.

    They are the variables in the ``value`` of every named tag: ``value="$image"`` gives
    ``image``. The rule is Label Studio's own (``core/label_config.py``).

    Raises ``NotATaskError`` when the config is no XML.
    """
    try:
        root = ET.fromstring(label_config)  # noqa: S314 - the project's own config, not user data
    except ET.ParseError as error:
        raise NotATaskError(f"The label config is no XML: {error}.") from error
    keys: dict[str, None] = {}
    for tag in root.iter():
        value = tag.get("value", "")
        if tag.get("name") and (found := re.search(r"\$(\w+)", value)):
            # Label Studio takes `$a.b` whole, and of anything else the first variable.
            keys[value[1:] if value.startswith("$") else found[1]] = None
    return tuple(keys)


def blob_task(uri: str, data_key: str) -> Task:
    """Make the task that shows a blob: ``{data_key: uri}``; the object is not read."""
    return Task(row=0, data={data_key: uri})


def parse_tasks(key: str, body: bytes, required: Sequence[str]) -> Iterator[Task | Rejection]:
    """Read the tasks in an object's content, each with its row.

    A ``.json`` object (or any other) holds a task or a list of tasks, a ``.jsonl`` or
    ``.ndjson`` object a task a line; a task stands bare, or in Label Studio's form with
    ``data``. ``required`` are the keys that the label config shows: a task needs them all.
    A row that is no task is a rejection, and the rows around it are tasks all the same.
    """
    try:
        text = _text(body)
        rows = _lines(text) if key.lower().endswith((".jsonl", ".ndjson")) else _items(text)
    except NotATaskError as error:
        yield Rejection(None, str(error))
        return
    for row, value in rows:
        yield value if isinstance(value, Rejection) else _task(row, value, required)


def size_rejection(size: int) -> Rejection | None:
    """Complain of an object that is not worth reading; ``size`` is in bytes."""
    if size <= LARGEST_OBJECT:
        return None
    return Rejection(
        None, f"The object has {size:,} bytes; at most {LARGEST_OBJECT:,} are read. Split it."
    )


def _text(body: bytes) -> str:
    if not body.strip():
        raise NotATaskError("The object is empty.")
    if body.startswith(b"\x1f\x8b"):
        raise NotATaskError("The object is gzip data; store it uncompressed.")
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise NotATaskError("The object starts with a byte order mark; store it as plain UTF-8.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotATaskError(f"The object is not UTF-8: byte {error.start} can't be read.") from None


def _items(text: str) -> Iterator[tuple[int, object]]:
    value = _parse(text)
    if not isinstance(value, list):
        return iter([(0, value)])
    if not value:
        raise NotATaskError("The object is an empty list.")
    return iter(enumerate(value))


def _lines(text: str) -> Iterator[tuple[int, object]]:
    # Not splitlines(): that also splits at U+2028 and others, which JSON strings may hold.
    for row, line in enumerate(text.split("\n")):
        if line.strip():
            try:
                yield row, _parse(line)
            except NotATaskError as error:
                yield row, Rejection(row, str(error))


def _parse(text: str) -> object:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise NotATaskError(f"Not JSON: {error.msg} ({at}).") from None
    except RecursionError:
        raise NotATaskError("The JSON is nested too deep.") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise NotATaskError(f"Not JSON that can be kept: {error}.") from None
    _check_values(value, DEEPEST)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotATaskError(f"The key {twice!r} stands twice in one JSON object.")
    return found


def _no_constant(name: str) -> object:
    raise NotATaskError(f"{name} is not JSON.")


def _check_values(value: object, levels: int) -> None:
    """Refuse what would not come back from Label Studio as it went in."""
    if levels == 0:
        raise NotATaskError(f"The JSON is nested deeper than {DEEPEST} levels.")
    if isinstance(value, dict):
        for name, member in value.items():
            _check_values(name, levels)
            _check_values(member, levels - 1)
    elif isinstance(value, list):
        for member in value:
            _check_values(member, levels - 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NotATaskError("A whole number has more than 64 bits; write it as a string.")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise NotATaskError("A number is too large for a double.")


def _check_text(value: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NotATaskError("A string holds half of a surrogate pair.") from None


def _task(row: int, value: object, required: Sequence[str]) -> Task | Rejection:
    if not isinstance(value, dict):
        return Rejection(row, f"A task is a JSON object; here stands {_kind(value)}.")
    whole = isinstance(value.get("data"), dict)
    data = value["data"] if whole else value
    missing = [key for key in required if key not in data]
    if missing:
        have = ", ".join(map(repr, list(data)[:10])) or "none"
        need = ", ".join(map(repr, missing))
        return Rejection(
            row, f"The label config shows {need}, which the task lacks; it has {have}."
        )
    if not whole:
        return Task(row, data)
    try:
        return Task(row, data, _meta(value), _annotations(value), _results(value, "predictions"))
    except NotATaskError as error:
        return Rejection(row, str(error))


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _meta(task: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = task.get("meta")
    if meta is None:
        return {}
    if not isinstance(meta, (dict, list)):
        raise NotATaskError(f"`meta` is a JSON object; here stands {_kind(meta)}.")
    return meta if isinstance(meta, dict) else {"meta": meta}


_KEPT = ("result", "was_cancelled", "ground_truth", "lead_time", "completed_by")


def _annotations(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read ``annotations``, or ``completions`` as old exports name them.

    Ids and times are Label Studio's to give; a ``unique_id`` that it knows already would
    make it refuse the whole batch.
    """
    name = "annotations" if task.get("annotations") is not None else "completions"
    found = _results(task, name)
    kept = [{key: one[key] for key in _KEPT if one.get(key) is not None} for one in found]
    for one, was in zip(kept, found, strict=True):
        if was.get("skipped"):
            one["was_cancelled"] = True
        if isinstance(who := one.get("completed_by"), dict):  # an expanded export
            one["completed_by"] = {"email": who["email"]} if "email" in who else who.get("id")
    return kept


def _results(task: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = task.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotATaskError(f"`{name}` is a list of JSON objects, or absent.")
    if not all(isinstance(one.get("result"), list) for one in found):
        raise NotATaskError(f"Each of `{name}` has a `result`, which is a list.")
    return found
