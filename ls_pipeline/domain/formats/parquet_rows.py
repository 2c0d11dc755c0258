"""Read the rows of a Parquet file, a few at a time. Nested columns become nested JSON."""

from __future__ import annotations

import json
import math
import re
from io import SEEK_END
from typing import TYPE_CHECKING, Any

import numpy as np

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.formats.columns import data_keys
from ls_pipeline.domain.notes import quoted, shorten
from ls_pipeline.domain.rows import count_parts
from ls_pipeline.domain.tasks import LARGEST_ROW, MOST_PARTS, Rejection, check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from ls_pipeline.domain.formats.columns import ColumnMap

    Convert = Callable[[Any], Any]

MAGIC = b"PAR1"
"""The first bytes of a Parquet file."""

BATCH_ROWS = 1000
BATCH_BYTES = 4 * 2**20
"""What is decoded at once, by the mean size of a row."""

SHARED_BYTES = 64 * 2**20
FEW_ROWS = 8
"""What is decoded at once if rows may share long texts: so many bytes, but at least some rows."""

LARGEST_GROUP = 64 * 2**20
MOST_COMPRESSED = 200
"""Bytes of a row group that is compressed to less than a 200th."""

_PAGE_BYTES = 2**20
"""What is read at once of a column."""

_SMALL = 2**20
"""Bytes of a batch that is too small for a row with too many bytes or parts."""


def rows(
    file: IO[bytes], column_map: ColumnMap, is_loaded: Callable[[int], bool]
) -> Iterator[tuple[int, object]]:
    """Yield position and value of each row, without those that are loaded.

    Row groups that are loaded as a whole are not read. A null column or field is left out:
    Parquet has no absent ones.

    Raises ``NotATaskError`` if the table can't be read on.
    """
    import pyarrow as pa

    position = 0
    try:
        stored = file.seek(0, SEEK_END)
        file.seek(0)
        table = _open(file)
        columns = _columns(table.schema_arrow, column_map)
        names = [name for name, _, _ in columns]
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            end = position + group.num_rows
            if all(map(is_loaded, range(position, end))):
                position = end
                continue
            _check_size_of_group(group, stored)
            batches = table.iter_batches(
                _batch_rows(group),
                row_groups=[number],
                columns=names,
                use_threads=False,
            )
            for batch in batches:
                yield from _rows(batch, position, columns, is_loaded)
                position += len(batch)
            if position != end:
                raise NotATaskError("Not Parquet: a row group has not the rows that it announces.")
    except (pa.ArrowException, OSError, ValueError) as error:  # its names may be no UTF-8
        read = f" It was read up to row {position - 1}." if position else ""
        reason = shorten(" ".join(str(error).split()).rstrip("."), 200)
        raise NotATaskError(f"The Parquet file can't be read: {reason}.{read}") from None
    if not position:
        raise NotATaskError("The table has no rows.")


def _open(file: IO[bytes]) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(  # type: ignore[no-untyped-call]
        file, buffer_size=_PAGE_BYTES, pre_buffer=False
    )


def _batch_rows(group: Any) -> int:
    """Return how many rows of a row group are decoded at once."""
    size = max(group.total_byte_size, 1)
    mean = max(size // max(group.num_rows, 1), 1)
    # A long text may be in the group once and in all rows; decoded, each row has its own.
    most = max(SHARED_BYTES // size, FEW_ROWS)
    return int(max(min(BATCH_BYTES // mean, most, BATCH_ROWS), 1))


def _check_size_of_group(group: Any, stored: int) -> None:
    """Refuse what is made to fill the memory: no honest table is compressed as much."""
    size = group.total_byte_size
    if size > LARGEST_GROUP and size > MOST_COMPRESSED * stored:
        raise NotATaskError(
            f"A row group has {size:,} bytes, in an object of {stored:,}; at most "
            f"{LARGEST_GROUP:,} are read of what is compressed as much."
        )


def _columns(schema: Any, column_map: ColumnMap) -> list[tuple[str, str, Convert | None]]:
    """Return name, key and conversion of each column that is not left out."""
    columns = []
    for field, key in zip(schema, data_keys(schema.names, column_map), strict=True):
        if key:
            columns.append((field.name, key, _conversion(field.type, field.name)))
    if not columns:
        raise NotATaskError("The param column_map leaves out all columns.")
    return columns


def _rows(
    batch: Any,
    first: int,
    columns: list[tuple[str, str, Convert | None]],
    is_loaded: Callable[[int], bool],
) -> Iterator[tuple[int, object]]:
    size = sum(_size(batch.column(name)) for name, _, _ in columns)
    wanted = [(key, batch.column(name), convert) for name, key, convert in columns]
    for index in range(len(batch)):
        position = first + index
        if is_loaded(position):
            continue
        try:
            if size > LARGEST_ROW:  # before it is built
                _check_size(sum(_size(column.slice(index, 1)) for _, column, _ in wanted))
            row = {}
            for key, column, convert in wanted:
                value = column[index].as_py()
                if value is not None:
                    row[key] = convert(value) if convert else value
            _check(row, is_small=size <= _SMALL)
        except NotATaskError as error:
            yield position, Rejection(position, str(error))
        except (ValueError, OverflowError, LookupError) as error:
            # Text that is no UTF-8, a date that Python has not, a struct with a field twice.
            yield position, Rejection(position, shorten(f"{quoted(key)} can't be read: {error}."))
        else:
            yield position, row


def _check(row: dict[str, Any], *, is_small: bool) -> None:
    check_values(row)
    if not is_small:
        text = json.dumps(row, ensure_ascii=False).encode()
        _check_size(len(text))
        if (parts := count_parts(text)) > MOST_PARTS:
            raise NotATaskError(
                f"The row has {parts:,} lists, objects and texts; at most {MOST_PARTS:,} are read."
            )


def _check_size(size: int) -> None:
    if size > LARGEST_ROW:
        raise NotATaskError(f"The row has {size:,} bytes; at most {LARGEST_ROW:,} are read.")


def _size(array: Any) -> int:
    """Return the bytes of an array's values, those that it has only once each time."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return _size_of_shared(array)
    if pa.types.is_struct(array.type):
        return sum(map(_size, array.flatten()))
    if pa.types.is_nested(array.type):
        return sum(map(_size, _parts(array))) + 4 * len(array)
    return int(array.nbytes)


def _size_of_shared(array: Any) -> int:
    import pyarrow as pa

    values, size = array.dictionary, int(array.indices.nbytes)
    is_large = pa.types.is_large_string(values.type)
    places = array.indices.drop_null().to_numpy(zero_copy_only=False)
    if len(places) and not 0 <= places.min() <= places.max() < len(values):
        raise ValueError("it has values that are not in its dictionary")  # Arrow would crash
    if not (is_large or pa.types.is_string(values.type)) or not len(places):
        return size
    offsets = np.frombuffer(values.buffers()[1], np.int64 if is_large else np.int32)
    places = places + values.offset
    return size + int((offsets[places + 1] - offsets[places]).sum(dtype=np.int64))


def _parts(array: Any) -> Iterator[Any]:
    """Yield the values in a list's lists, or the keys and the values of a map's maps."""
    import pyarrow as pa

    if not pa.types.is_map(array.type):
        yield array.flatten()
    elif len(array):
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        yield array.keys[first:last]
        yield array.items[first:last]


def _conversion(kind: Any, name: str) -> Convert | None:
    """Return what makes JSON of a column's values; None if they are JSON."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = getattr(kind, "extension_name", "") == "arrow.uuid"
        return str if is_uuid else _conversion(kind.storage_type, name)
    if pa.types.is_dictionary(kind):
        return _conversion(kind.value_type, name)
    if pa.types.is_nested(kind):
        return _nested(kind, name)
    for type_, convert in _CONVERSIONS.items():
        if re.match(type_, str(kind)):
            return convert
    raise NotATaskError(
        f"The column {quoted(name)} has the type {shorten(str(kind), 60)}, which JSON can't hold. "
        f"Leave it out with the param column_map: {json.dumps({name: ''})}."
    )


def _nested(kind: Any, name: str) -> Convert:
    import pyarrow as pa

    if pa.types.is_map(kind):
        of_item = _conversion(kind.item_type, name)
        of_key = _conversion(kind.key_type, name)
        return lambda pairs: {
            _text(_converted(key, of_key)): _converted(value, of_item) for key, value in pairs
        }
    if pa.types.is_struct(kind):
        fields = {field.name: _conversion(field.type, name) for field in kind}
        return lambda value: {
            key: _converted(member, fields[key])
            for key, member in value.items()
            if member is not None
        }
    if pa.types.is_union(kind):
        raise NotATaskError(f"The column {quoted(name)} has the type union, which is not read.")
    of_value = _conversion(kind.value_type, name)
    return lambda values: [_converted(value, of_value) for value in values]


def _converted(value: Any, convert: Convert | None) -> Any:
    return value if value is None or convert is None else convert(value)


def _text(key: object) -> str:
    return key if isinstance(key, str) else json.dumps(key)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise NotATaskError(f"{'NaN' if math.isnan(number) else 'Infinity'} is not JSON.")
    return number


def _moment(value: Any) -> str:
    return str(value.isoformat())


def _seconds(value: Any) -> float:
    return float(value.total_seconds())


_CONVERSIONS: dict[str, Convert | None] = {
    "u?int|bool|null|string|large_string": None,
    "half|float|double": _number,
    "decimal": str,
    "date|time": _moment,
    "duration": _seconds,
}
"""What makes JSON of values, by what the names of their types start with. Binary is not there."""
