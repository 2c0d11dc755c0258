"""Inserts rows and replaces those with the same key, many at once, on either database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence


def upsert(
    db: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    replace: bool | sa.ColumnElement[bool] = True,
) -> None:
    """Write rows; ``replace`` says whether rows with the same key are replaced, or which.

    A column that the rows lack keeps its value.
    """
    if not rows:
        return
    key = list(table.primary_key.columns)
    insert: postgresql.Insert | sqlite.Insert
    if db.dialect.name == "postgresql":
        insert, values = _from_arrays(table, _last_of_each(rows, key)), None
    else:
        insert, values = sqlite.insert(table), rows
    if replace is False:
        db.execute(insert.on_conflict_do_nothing(index_elements=key), values)
        return
    change = {
        column.name: insert.excluded[column.name]
        for column in table.columns
        if column.name in rows[0] and not column.primary_key
    }
    some = None if replace is True else replace
    db.execute(insert.on_conflict_do_update(index_elements=key, set_=change, where=some), values)


def _from_arrays(table: sa.Table, rows: Sequence[dict[str, Any]]) -> postgresql.Insert:
    """Return one statement for all rows, each column an array.

    psycopg sends one statement per row, which takes PostgreSQL and us twice as long.
    """
    columns = [table.c[name] for name in rows[0]]
    arrays = (
        sa.bindparam(column.name, [row[column.name] for row in rows], type_=_array(column))
        for column in columns
    )
    listed = sa.select(*map(sa.func.unnest, arrays))
    return postgresql.insert(table).from_select(columns, listed)


def _array(column: sa.Column[Any]) -> postgresql.ARRAY[Any]:
    return postgresql.ARRAY(column.type)


def _last_of_each(
    rows: Sequence[dict[str, Any]], key: Sequence[sa.Column[Any]]
) -> list[dict[str, Any]]:
    """Return one row for each key: PostgreSQL refuses to write a row twice in a statement."""
    return list({tuple(row[column.name] for column in key): row for row in rows}.values())
