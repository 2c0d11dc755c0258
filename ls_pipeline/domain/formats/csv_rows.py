"""Read the rows of a CSV or TSV file. All cells are texts, as they are written."""

from __future__ import annotations

import csv
from itertools import chain
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.formats.columns import data_keys
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.rows import BYTE_ORDER_MARK, check_byte_order
from ls_pipeline.domain.tasks import LARGEST_ROW, Rejection
from ls_pipeline.domain.text import is_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from typing_extensions import Self

    from ls_pipeline.domain.formats.columns import ColumnMap

TAB = "\t"


class _Lines:
    """The lines of a file, decoded. Bytes that are not UTF-8 become lone surrogates.

    Python's module ``csv`` asks for more lines until a row ends; ``left`` is what the row may have.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.left = file, LARGEST_ROW

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise NotATaskError(
                f"A row has over {LARGEST_ROW:,} bytes, or a quotation mark that is not closed."
            )
        if not line:
            raise StopIteration
        return line.decode("utf-8", "surrogateescape")


def rows(
    file: IO[bytes],
    delimiter: str,
    column_map: ColumnMap,
    is_loaded: Callable[[int], bool],
) -> Iterator[tuple[int, object]]:
    """Yield position and data of each row below the header, without those that are loaded.

    Without a delimiter, it is a comma or a semicolon: what the header has more of, as Label Studio
    decides. Blank lines don't count. A row with too many or too few cells is a `Rejection`.

    Raises ``NotATaskError`` if the table can't be read on.
    """
    # The field's limit is the process's; `_Lines` keeps to ours, which is that of a row.
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_ROW))
    start = file.read(len(BYTE_ORDER_MARK))
    check_byte_order(start)
    if start != BYTE_ORDER_MARK:
        file.seek(0)
    lines = _Lines(file)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise NotATaskError("The object is empty.")
    delimiter = delimiter or (";" if first.count(";") > first.count(",") else ",")
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    keys = data_keys(_header(reader), column_map)
    position = 0
    while True:
        lines.left = LARGEST_ROW
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield position, _malformed(position, error)
            position += 1
            continue
        except NotATaskError as error:
            raise NotATaskError(f"{error} It is row {position}.") from None
        if cells:
            if not is_loaded(position):
                yield position, _row(position, keys, cells)
            position += 1
    if not position:
        raise NotATaskError("The table has no rows.")


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        return next(reader)
    except csv.Error as error:
        raise NotATaskError(f"The header can't be read: {error}.") from None


def _malformed(position: int, error: csv.Error) -> Rejection:
    """Return why a row can't be read. Raises ``NotATaskError`` if what follows can't be either."""
    if "unexpected end" in str(error):
        raise NotATaskError(f"A quotation mark in row {position} is not closed.") from None
    if "new-line character" in str(error):
        raise NotATaskError(f"A line of row {position} ends in CR; end it in LF.") from None
    return Rejection(position, f"The row can't be read: {error}.")


def _row(position: int, keys: list[str], cells: list[str]) -> object:
    if len(cells) != len(keys):
        noun = "cell" if len(cells) == 1 else "cells"
        return Rejection(position, f"The row has {len(cells)} {noun}; the header has {len(keys)}.")
    data = {key: cell for key, cell in zip(keys, cells, strict=True) if key}
    for key, cell in data.items():
        if not cell.isascii() and not is_text(cell.replace("\0", " ")):
            return Rejection(position, f"{quoted(key)} is not UTF-8.")
    return data
