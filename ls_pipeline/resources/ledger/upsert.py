"""Inserts rows and replaces those with the same key, many at once, on either database."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence

_Insert = TypeVar("_Insert", postgresql.Insert, sqlite.Insert)


COMPILED = 64
"""Statements that are kept compiled."""


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
    if db.dialect.name == "postgresql":
        arrays = _from_arrays(table, _last_of_each(rows, [*table.primary_key.columns]))
        db.execute(_with_conflicts(arrays, table, tuple(rows[0]), replace=replace))
    elif isinstance(replace, bool):
        db.execute(_compiled(db.dialect, table, tuple(rows[0]), replace=replace), rows)
    else:
        db.execute(
            _with_conflicts(sqlite.insert(table), table, tuple(rows[0]), replace=replace), rows
        )


@lru_cache(COMPILED)
def _compiled(
    dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...], *, replace: bool
) -> sa.Executable:
    """Return a statement on SQLite, compiled: SQLAlchemy would compile it each time."""
    statement = _with_conflicts(sqlite.insert(table), table, names, replace=replace)
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    return cast("sa.Executable", compiled)


def _with_conflicts(
    insert: _Insert,
    table: sa.Table,
    names: Sequence[str],
    *,
    replace: bool | sa.ColumnElement[bool],
) -> _Insert:
    """Return an insertion that says what happens to rows with the same key."""
    key = list(table.primary_key.columns)
    if replace is False:
        return insert.on_conflict_do_nothing(index_elements=key)
    change = {
        column.name: insert.excluded[column.name]
        for column in table.columns
        if column.name in names and not column.primary_key
    }
    some = None if replace is True else replace
    return insert.on_conflict_do_update(index_elements=key, set_=change, where=some)


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
