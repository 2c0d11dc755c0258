"""Inserts rows and replaces those with the same key, many at once, on either database."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Insert = TypeVar("_Insert", postgresql.Insert, sqlite.Insert)


_SQLITE = sqlite.dialect()

COMPILED = 64
"""Statements that are kept compiled."""


@dataclass(frozen=True, eq=False)
class Merge:
    """What becomes of a row that exists, by column; `new` is the value that was to be written."""

    columns: Mapping[str, sa.ColumnElement[Any]] = field(default_factory=dict)
    """Empty: all columns are replaced."""


def new(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return the value that was to be written to a column of a row that exists."""
    return sa.alias(column.table, "excluded").c[column.name]


REPLACE = Merge()


def upsert(
    db: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    merge: Merge | None = REPLACE,
) -> None:
    """Write rows; rows with the same key are merged, or stay as they are without ``merge``.

    A column that the rows lack keeps its value.
    """
    if not rows:
        return
    names = tuple(rows[0])
    if db.dialect.name == "postgresql":
        arrays = _from_arrays(table, _last_of_each(rows, [*table.primary_key.columns]))
        db.execute(_with_conflicts(arrays, table, names, merge))
        return
    statement, values = _compiled(table, names, merge)
    db.exec_driver_sql(statement, list(map(values, rows)))


@lru_cache(COMPILED)
def _compiled(
    table: sa.Table, names: tuple[str, ...], merge: Merge | None
) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Return a statement on SQLite, and what takes its parameters from a row.

    SQLAlchemy would take as long for the parameters of many rows as SQLite for the rows.
    """
    statement = _with_conflicts(sqlite.insert(table), table, names, merge)
    compiled = statement.compile(dialect=_SQLITE, column_keys=list(names))
    order = compiled.positiontup or []
    types = (table.c[name].type.dialect_impl(_SQLITE) for name in order)
    converters = [type_.bind_processor(_SQLITE) for type_ in types]
    values = itemgetter(*order)
    defaults = {name: _default(table.c[name]) for name in order if name not in names}
    if not any(converters):
        complete = names == tuple(order)
        return str(compiled), values if complete else lambda row: values({**defaults, **row})

    def converted(row: Mapping[str, Any]) -> tuple[Any, ...]:
        pairs = zip(converters, values({**defaults, **row}), strict=True)
        return tuple(convert(value) if convert else value for convert, value in pairs)

    return str(compiled), converted


def _default(column: sa.Column[Any]) -> Any:
    default: Any = column.default
    return default.arg


def _with_conflicts(
    insert: _Insert,
    table: sa.Table,
    names: Sequence[str],
    merge: Merge | None,
) -> _Insert:
    """Return an insertion that says what happens to rows with the same key."""
    key = list(table.primary_key.columns)
    if merge is None:
        return insert.on_conflict_do_nothing(index_elements=key)
    change = merge.columns or {
        column.name: new(column)
        for column in table.columns
        if column.name in names and not column.primary_key
    }
    return insert.on_conflict_do_update(index_elements=key, set_=change)


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
