"""What an account knows of a bucket: objects, the tasks they became, and what can't become one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.listing_ranges import RangeBoundary
from ls_pipeline.domain.objects import prefix_end
from ls_pipeline.resources.ledger.lease import PAGE, Leased
from ls_pipeline.resources.ledger.records import LoadedRow, Quarantined
from ls_pipeline.resources.ledger.tables import (
    connections,
    milestones,
    objects,
    quarantine,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ls_pipeline.domain.objects import Filter
    from ls_pipeline.resources.ledger.lease import Lease

WHOLE_OBJECT = -1
"""The ``row`` of a quarantined object, as against one row of it."""


class Objects(Leased):
    """The part of an `Account` about objects and their tasks."""

    def known(self, prefix: str = "", after: str = "") -> Iterator[KnownObject]:
        """List the known objects whose key starts with ``prefix``, after ``after``, by key."""
        return (one for page in self.known_pages(prefix, after) for one in page)

    def known_pages(
        self, prefix: str = "", after: str = "", through: str = ""
    ) -> Iterator[list[KnownObject]]:
        """List the known objects as a bucket lists its own: in byte order, up to 1,000 a page.

        To the end, or up to a key. Reads page by page, so what is written behind the place it has
        reached changes nothing.
        """
        c = objects.c
        mine = sa.select(c.key, c.version, c.size, c.state).where(c.connection == self.id)
        mine = mine.order_by(c.key).limit(PAGE)
        if through:
            mine = mine.where(c.key <= through)
        # One bound alone: SQLite might search by the other.
        first, later = mine.where(c.key >= prefix), mine.where(c.key > sa.bindparam("after"))
        query = first if after < prefix else later
        while True:
            with self.ledger.engine.connect() as db:
                rows = db.execute(query, {"after": after}).all()
            page = _known(rows)
            if page and not page[-1].key.startswith(prefix):
                page = [one for one in page if one.key.startswith(prefix)]
            if page:
                yield page
            if len(page) < PAGE:
                return
            query, after = later, page[-1].key

    def known_at(self, keys: Sequence[str]) -> dict[str, KnownObject]:
        """Give what is known at each of these keys, where anything is."""
        c, found = objects.c, list[KnownObject]()
        query = sa.select(c.key, c.version, c.size, c.state).where(c.connection == self.id)
        with self.ledger.engine.connect() as db:
            for start in range(0, len(keys), PAGE):
                some = query.where(c.key.in_(keys[start : start + PAGE]))
                found += _known(db.execute(some).all())
        return {one.key: one for one in found}

    def range_boundaries(self, select: Filter, after: str = "") -> list[RangeBoundary]:
        """List where a listing may be cut after a key, within the filter's folder.

        Fingerprints are told only to the filter with which the ranges were compared.
        """
        c = milestones.c
        mine = sa.select(c.key, c.fingerprint, c.listed, c.filtered, connections.c.compared_with)
        mine = mine.join(connections, connections.c.id == c.connection)
        mine = mine.where(c.connection == self.id, c.key > max(select.folder, after))
        with self.ledger.engine.connect() as db:
            rows = db.execute(mine.order_by(c.key)).all()
        within = (row for row in rows if row.key.startswith(select.folder))
        return [
            RangeBoundary(*row[:4])
            if row.compared_with == _told(select)
            else RangeBoundary(row.key)
            for row in within
        ]

    def set_range_boundaries(
        self, lease: Lease, select: Filter, cut: Sequence[RangeBoundary]
    ) -> None:
        """Remember where to cut the next listing, and how its ranges were written."""
        with self._write(lease) as db:
            db.execute(milestones.delete().where(milestones.c.connection == self.id))
            db.execute(self._mine(lease).values(compared_with=_told(select)))
            if cut:
                values = [{"connection": self.id, **one._asdict()} for one in cut]
                db.execute(milestones.insert(), values)

    def _compare_anew(self, db: sa.Connection, keys: Collection[str]) -> None:
        """Forget how the ranges were written that hold these keys, and those between them."""
        if not keys:
            return
        c, first, last = milestones.c, min(keys), max(keys)
        mine = sa.and_(c.connection == self.id, c.key >= first)
        end = sa.select(sa.func.min(c.key)).where(c.connection == self.id, c.key >= last)
        until = db.scalar(end)
        if until is not None:
            mine = sa.and_(mine, c.key <= until)
        db.execute(milestones.update().where(mine).values(fingerprint=""))

    def rows_of(self, key: str) -> dict[int, LoadedRow]:
        """Give the tasks that an object became, by row."""
        return self.rows_of_all([key])[key]

    def rows_of_all(self, keys: Sequence[str]) -> dict[str, dict[int, LoadedRow]]:
        """Give the tasks that some objects became, by key and row."""
        c = tasks.c
        query = sa.select(c.key, c.row, c.version, c.digest, c.task_id)
        mine = query.where(c.connection == self.id, c.key.in_(keys))
        found: dict[str, dict[int, LoadedRow]] = {key: {} for key in keys}
        with self.ledger.engine.connect() as db:
            for row in db.execute(mine):
                found[row.key][row.row] = LoadedRow(*row)
        return found

    def has_tasks(self) -> bool:
        """Tell whether any task was recorded yet."""
        query = sa.select(tasks.c.task_id).where(tasks.c.connection == self.id).limit(1)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) is not None

    def count_tasks(self) -> int:
        """Count the rows of objects that are tasks."""
        query = sa.select(sa.func.count()).where(tasks.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) or 0

    def count_objects(self, prefix: str = "") -> dict[State, int]:
        """Count the known objects whose key starts with ``prefix``, by their state."""
        c = objects.c
        query = sa.select(c.state, sa.func.count()).where(c.connection == self.id)
        query = query.where(c.key >= prefix)
        if end := prefix_end(prefix):
            query = query.where(c.key < end)
        with self.ledger.engine.connect() as db:
            counted = {State(state): n for state, n in db.execute(query.group_by(c.state))}
        return {state: counted.get(state, 0) for state in State}

    def quarantined(self, limit: int | None = None) -> list[Quarantined]:
        """List what is in quarantine, in key order."""
        c = quarantine.c
        query = sa.select(c.key, c.row, c.version, c.reason, c.reading)
        mine = query.where(c.connection == self.id)
        with self.ledger.engine.connect() as db:
            rows = db.execute(mine.order_by(c.key, c.row).limit(limit)).all()
        return [
            Quarantined(key, None if row == WHOLE_OBJECT else row, version, reason, reading)
            for key, row, version, reason, reading in rows
        ]

    def is_finished(self, key: str) -> bool:
        """Tell whether some pass came to an end with an object, and it is still there."""
        c = objects.c
        done = (State.LOADED.value, State.QUARANTINED.value)
        query = sa.select(c.key).where(c.connection == self.id, c.key == key, c.state.in_(done))
        with self.ledger.engine.connect() as db:
            return db.scalar(query) is not None

    def is_quarantined(self, key: str) -> bool:
        """Tell whether an object, or a row of it, is in quarantine."""
        c = quarantine.c
        query = sa.select(c.key).where(c.connection == self.id, c.key == key).limit(1)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) is not None

    def outlived_quarantine(self, reading: str) -> list[str]:
        """List the keys that are in quarantine because they were read otherwise."""
        c = quarantine.c
        query = sa.select(c.key).where(c.connection == self.id, c.reading != reading).distinct()
        with self.ledger.engine.connect() as db:
            return list(db.scalars(query.order_by(c.key)))

    def free(self, lease: Lease, keys: Sequence[str]) -> None:
        """Take objects out of quarantine: the next comparison finds them changed."""
        with self._write(lease) as db:
            self._compare_anew(db, keys)
            for start in range(0, len(keys), PAGE):
                self._free(db, keys[start : start + PAGE])

    def _free(self, db: sa.Connection, keys: Sequence[str]) -> None:
        held = sa.and_(quarantine.c.connection == self.id, quarantine.c.key.in_(keys))
        mine = sa.and_(objects.c.connection == self.id, objects.c.key.in_(keys))
        db.execute(quarantine.delete().where(held))
        db.execute(objects.delete().where(mine, objects.c.state == State.QUARANTINED.value))
        # Some rows of the others are loaded: these stay known, in a version that no bucket lists.
        db.execute(objects.update().where(mine).values(version=""))

    def count_quarantined(self) -> int:
        """Count what is in quarantine: objects, and single rows of others."""
        query = sa.select(sa.func.count()).where(quarantine.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) or 0


def _told(select: Filter) -> str:
    return f"{select.folder}\n{select.regex}"


_STATES = {state.value: state for state in State}

_known_object = partial(tuple.__new__, KnownObject)
"""As `KnownObject`, without a call in Python: there may be millions."""


def _known(rows: Sequence[sa.Row[Any]]) -> list[KnownObject]:
    if not rows:
        return []
    keys, versions, sizes, states = zip(*rows, strict=True)
    fields = zip(keys, versions, sizes, map(_STATES.__getitem__, states), strict=True)
    return list(map(_known_object, fields))
