"""What all records of a connection have in common: how they are read, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.ledger.upsert import REPLACE, Merge, upsert

if TYPE_CHECKING:
    from collections.abc import Iterable

    import sqlalchemy as sa

    from ls_pipeline.resources.ledger.database import Database
    from ls_pipeline.resources.ledger.lease import Fence

PAGE = 1000
"""Rows read at once."""


@dataclass(frozen=True)
class Records:
    """Reads one kind of record of the connection with this id."""

    database: Database
    id: int


@dataclass(frozen=True)
class Writer(Records):
    """Writes them too, behind the fence of the run that holds the connection."""

    fence: Fence

    def upsert(
        self,
        db: sa.Connection,
        table: sa.Table,
        rows: Iterable[dict[str, Any]],
        *,
        merge: Merge | None = REPLACE,
    ) -> None:
        """Write rows of the connection as `upsert` does."""
        upsert(db, table, [{"connection": self.id, **row} for row in rows], merge=merge)


def columns(record: Any) -> dict[str, Any]:
    """Return a record's fields as columns."""
    names, values = _fields(record.__class__)
    return dict(zip(names, values(record), strict=True))


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], attrgetter[tuple[Any, ...]]]:
    names = tuple(kind.__dataclass_fields__)
    return names, attrgetter(*names)
