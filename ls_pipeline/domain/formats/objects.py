"""Parse an object into tasks, or into precise reasons why it can't become tasks."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import TYPE_CHECKING

from ls_pipeline.domain import rows
from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.formats import choice, csv_rows, json_rows, parquet_rows
from ls_pipeline.domain.formats.choice import CSV, JSON, JSONL, PARQUET, TEXT, TSV, Reading
from ls_pipeline.domain.label_config import kind_of
from ls_pipeline.domain.sidecars import LARGEST as LARGEST_SIDECAR
from ls_pipeline.domain.tasks import LARGEST_ROW, Rejection, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from ls_pipeline.domain.label_config import LabelConfig
    from ls_pipeline.domain.sidecars import Sidecar
    from ls_pipeline.domain.tasks import Task

GZIP = b"\x1f\x8b"
GZIP_LAYERS = 2
BROKEN_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)

_PACKED = {
    re.compile(form, re.DOTALL): name
    for form, name in {
        rb"BZh[1-9]1AY&SY": "bzip2",
        rb"\xfd7zXZ\x00": "xz",
        rb"\x28\xb5\x2f\xfd": "zstd",
        rb"PK\x03\x04": "ZIP, as Excel files are",
        rb"7z\xbc\xaf\x27\x1c": "7-Zip",
        rb".{257}ustar(\x0000|  \x00)": "tar",
    }.items()
}
"""How files begin that only other programs unpack, and their names."""
_BEGIN = 265
"""Bytes that show each of these forms."""

UNKNOWN_FORM = (
    "The object is neither JSON nor Parquet, and its key says no format. Set the param format if "
    "it is text or a table, set use_blob_urls if it is to be shown by its URL, or leave it out "
    "with the param exclude."
)


def _is_new(position: int) -> bool:  # noqa: ARG001
    return False


def parse_tasks(
    key: str,
    content: bytes | IO[bytes],
    label_config: LabelConfig,
    reading: Reading | None = None,
    is_loaded: Callable[[int], bool] = _is_new,
    sidecar: Sidecar | None = None,
) -> Iterator[Task | Rejection]:
    """Yield the tasks in an object's content, and a `Rejection` for each row that is not one.

    A task is plain data, or Label Studio's form with ``data``. Its data fits the label config.
    Rows of tables are left out if ``is_loaded`` says so of their position. A text is merged with
    its sidecar.

    Rows are built one by one. If the content can't be read on from some place, the last item is
    the object's rejection, and the rows before it are valid.
    """
    try:
        for position, value in _rows(key, content, reading or Reading(), is_loaded, sidecar):
            yield value if isinstance(value, Rejection) else task_of(position, value, label_config)
            del value  # before the next one is built
    except NotATaskError as error:
        reason = str(error)
        yield Rejection(None, reason, is_unknown_form=reason == UNKNOWN_FORM)
    except BROKEN_GZIP as error:
        yield Rejection(None, _broken(error))


def _rows(
    key: str,
    content: bytes | IO[bytes],
    reading: Reading,
    is_loaded: Callable[[int], bool],
    sidecar: Sidecar | None,
) -> Iterator[tuple[int, object]]:
    packed: IO[bytes] = io.BytesIO(content) if isinstance(content, bytes) else content
    file = unpacked(packed)
    is_gzip = file is not packed
    format_ = reading.format_of(key)
    if reading.format == choice.AUTO:
        format_ = PARQUET if file.read(len(parquet_rows.MAGIC)) == parquet_rows.MAGIC else format_
        file.seek(0)
    if format_ in {CSV, TSV}:
        delimiter = csv_rows.TAB if format_ == TSV else ""
        return csv_rows.rows(file, delimiter, reading.column_map, is_loaded)
    if format_ == PARQUET and not is_gzip:
        return parquet_rows.rows(file, reading.column_map, is_loaded)
    body = content if isinstance(content, bytes) and not is_gzip else _read(file)
    if format_ == PARQUET:
        return parquet_rows.rows(io.BytesIO(body), reading.column_map, is_loaded)
    return _in_memory(body, format_, reading, sidecar)


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """Return what is in a file that is compressed with gzip, or compressed twice; else the file.

    Uploads that compress do so with a file that is compressed already. Raises ``NotATaskError`` if
    the file is packed in another way.
    """
    for _ in range(GZIP_LAYERS):
        if _begin_of(file, len(GZIP)) != GZIP:
            break
        file = gzip.GzipFile(mode="rb", fileobj=file)  # type: ignore[assignment] # typeshed: not IO[bytes]
    begin = _begin_of(file, _BEGIN)
    if name := next((name for form, name in _PACKED.items() if form.match(begin)), ""):
        raise NotATaskError(f"The object is packed with {name}. Unpack it; only gzip is read.")
    return file


def _begin_of(file: IO[bytes], size: int) -> bytes:
    file.seek(0)
    begin = file.read(size)
    file.seek(0)
    return begin


def parse_sidecar(body: bytes) -> dict[str, Any]:
    """Return a sidecar's content. Raises ``NotATaskError`` if it is not a JSON object."""
    if body.startswith(GZIP):
        try:
            body = _read(unpacked(io.BytesIO(body)), LARGEST_SIDECAR)
        except BROKEN_GZIP as error:
            raise NotATaskError(_broken(error)) from error
    rows.check_text(body)
    if rows.is_list(body):
        raise NotATaskError("A sidecar is a JSON object, not a list.")
    _, value = next(_in_memory(body, JSON, Reading(JSON)))
    if not isinstance(value, dict):
        raise NotATaskError(f"A sidecar is a JSON object, not {kind_of(type(value))}.")
    return value


def _broken(error: Exception) -> str:
    return f"The gzip data can't be read: {str(error).rstrip('.')}."


def _read(file: IO[bytes], most: int = 0) -> bytes:
    """Return what is compressed. Raises ``NotATaskError`` if it is too large."""
    most = most or choice.LARGEST_OBJECT
    body = file.read(most + 1)
    if len(body) > most:
        raise NotATaskError(
            f"The object has over {most:,} bytes when it is decompressed; no more are read. "
            "Split it."
        )
    return body


def _in_memory(
    body: bytes, format_: str, reading: Reading, sidecar: Sidecar | None = None
) -> Iterator[tuple[int, object]]:
    body = body.removeprefix(rows.BYTE_ORDER_MARK)
    rows.check_byte_order(body)
    if not format_ and not rows.may_be_json(body):
        raise NotATaskError(UNKNOWN_FORM)
    rows.check_text(body)
    if format_ == TEXT:
        return _text(body, reading, sidecar)
    is_lines = format_ == JSONL
    if reading.format == choice.AUTO and format_ in {"", JSON}:
        is_lines = rows.has_values_in_lines(body)
    return json_rows.lines(body) if is_lines else json_rows.items(body)


def _text(body: bytes, reading: Reading, sidecar: Sidecar | None) -> Iterator[tuple[int, object]]:
    if len(body) > LARGEST_ROW:
        raise NotATaskError(f"The text has {len(body):,} bytes; at most {LARGEST_ROW:,} are read.")
    if reading.text_key is None:
        raise NotATaskError("The label config shows no text.")
    data = reading.text_key.data_with(body.decode())
    yield 0, sidecar.merged(data) if sidecar else {"data": data}
