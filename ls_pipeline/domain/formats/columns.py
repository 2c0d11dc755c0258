"""Which key of the data each column of a table becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.tasks import MOST_PARTS
from ls_pipeline.domain.text import is_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    ColumnMap = Mapping[str, str | None]
    """Column → key of the data. A column that is mapped to nothing is left out."""


MOST_COLUMNS = MOST_PARTS // 2
"""Each is a key and a value of every row."""


def data_keys(columns: Sequence[str], column_map: ColumnMap) -> list[str]:
    """Return the key that each column becomes; an empty text for one that is left out.

    Raises ``NotATaskError`` if a column has no name, if two become the same key, or if there are
    too many.
    """
    if len(columns) > MOST_COLUMNS:
        raise NotATaskError(
            f"The table has {len(columns):,} columns; at most {MOST_COLUMNS:,} are read."
        )
    keys: list[str] = []
    taken: dict[str, str] = {}
    for number, column in enumerate(columns, 1):
        if not is_text(column):
            raise NotATaskError(f"The name of column {number} is not UTF-8.")
        key = column_map.get(column, column) or ""
        if not (column or key or column in column_map):
            raise NotATaskError(
                f"Column {number} has no name. Name it, or leave it out with the param column_map: "
                '{"": ""}.'
            )
        if key and key in taken:
            raise NotATaskError(_twice(taken[key], column, key))
        if key:
            taken[key] = column
        keys.append(key)
    return keys


def _twice(first: str, second: str, key: str) -> str:
    if first == second:
        return f"Two columns are called {quoted(first)}. Rename one of them."
    return (
        f"The columns {quoted(first)} and {quoted(second)} both become {quoted(key)}. Change the "
        "param column_map."
    )
