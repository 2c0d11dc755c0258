"""One line of a manifest: the key of an object, and what else its task has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.formats.objects import parse_sidecar
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.sidecars import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOURCE_REF, KEY = "source-ref", "key"
"""Fields of a line that name its object; manifests of Amazon SageMaker have the first."""


class Line(NamedTuple):
    """What a line of a manifest says."""

    key: str
    form: Mapping[str, Any]
    """Plain data, or Label Studio's form with ``data``; empty if the line only names the object."""

    @property
    def text(self) -> str:
        """The form as text, which is empty if the form is."""
        return json.dumps(self.form, sort_keys=True) if self.form else ""


def parse_line(line: bytes, root: str, data_key: str = "") -> Line:
    """Parse a line: an object's key or URI, or a JSON object that has one of them.

    In a JSON object, it is in ``data_key``, in ``source-ref``, in the first value that is a URI of
    the bucket, or in ``key``. ``root`` is the bucket's URI. Raises ``NotATaskError``.
    """
    if len(line) > LARGEST:
        raise NotATaskError(f"It has {len(line):,} bytes; at most {LARGEST:,} are read.")
    if not line.startswith((b"{", b"[")):
        try:
            return Line(_key(line.decode(), root), {})
        except UnicodeDecodeError:
            raise NotATaskError("It is not UTF-8.") from None
    form = parse_sidecar(line)
    data = form["data"] if isinstance(form.get("data"), dict) else form
    for text in _names(form, data, root, data_key):
        rest = {name: value for name, value in form.items() if name not in {SOURCE_REF, KEY}}
        return Line(_key(text, root), rest)
    raise NotATaskError(f"It names no object: its key or URI belongs into {quoted(KEY)}.")


def _names(
    form: Mapping[str, Any], data: Mapping[str, Any], root: str, data_key: str
) -> Iterator[str]:
    uris = (value for value in data.values() if isinstance(value, str) and value.startswith(root))
    for value in (data.get(data_key), form.get(SOURCE_REF), next(uris, None), form.get(KEY)):
        if isinstance(value, str):
            yield value


def _key(text: str, root: str) -> str:
    """Return the key of an object from its key or URI. Raises ``NotATaskError``."""
    if text.startswith(root):
        return text.removeprefix(root)
    if re.match("[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise NotATaskError(f"{quoted(text)} is not in the bucket {root}.")
    return text
