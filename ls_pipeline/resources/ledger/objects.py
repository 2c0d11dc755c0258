"""What is known of a source: its objects, the tasks they became, and what is in quarantine."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.listing_ranges import RangeBoundary
from ls_pipeline.domain.objects import prefix_end
from ls_pipeline.domain.tasks import NO_POSITION
from ls_pipeline.resources.ledger.health import RETRY_AT_MOST
from ls_pipeline.resources.ledger.records import Quarantined, TaskRow
from ls_pipeline.resources.ledger.section import PAGE, Records, Writer
from ls_pipeline.resources.ledger.tables import (
    connections,
    objects,
    quarantine,
    range_boundaries,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import Any

    from ls_pipeline.domain.objects import Filter

_TASK_ROW = tuple(tasks.c[name] for name in TaskRow.__dataclass_fields__)
"""The columns of a `TaskRow`."""

_HAS_TASK = tasks.c.task_id != 0

WHOLE_OBJECT = -1
"""The ``row`` of an object that is in quarantine as a whole."""

FEW_ROWS = 10_000
"""Rows that may be read at once."""

MORE_ROWS = 2**31 - 1
"""The ``row`` that stands for those in quarantine that are not listed."""


class ObjectRecords(Records):
    """Objects, their tasks and the quarantine."""

    def known(self, prefix: str = "", after: str = "") -> Iterator[KnownObject]:
        """Return the known objects whose key starts with ``prefix``, after ``after``, by key."""
        return (known for page in self.known_pages(prefix, after) for known in page)

    def known_pages(
        self, prefix: str = "", after: str = "", through: str = ""
    ) -> Iterator[list[KnownObject]]:
        """Return the known objects as a bucket lists its own: in byte order, up to 1,000 a page.

        To the end, or through a key. Each page is read when it is asked for, so a write behind the
        place that the reader has reached changes nothing.
        """
        c = objects.c
        query = sa.select(c.key, c.version, c.size, c.state).where(c.connection == self.id)
        query = query.order_by(c.key).limit(PAGE)
        if through:
            query = query.where(c.key <= through)
        # One bound alone: with two, SQLite might search by the wrong one.
        first, later = query.where(c.key >= prefix), query.where(c.key > sa.bindparam("after"))
        query = first if after < prefix else later
        while True:
            with self.database.engine.connect() as db:
                rows = db.execute(query, {"after": after}).all()
            page = _known_objects(rows)
            if page and not page[-1].key.startswith(prefix):
                page = [known for known in page if known.key.startswith(prefix)]
            if page:
                yield page
            if len(page) < PAGE:
                return
            query, after = later, page[-1].key

    def known_at(self, keys: Sequence[str]) -> dict[str, KnownObject]:
        """Return what is known at these keys; an unknown key is absent."""
        c, found = objects.c, list[KnownObject]()
        query = sa.select(c.key, c.version, c.size, c.state).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            for batch in batches(keys, PAGE):
                some = query.where(c.key.in_(batch))
                found += _known_objects(db.execute(some).all())
        return {known.key: known for known in found}

    def range_boundaries(self, select: Filter, after: str = "") -> list[RangeBoundary]:
        """Return where a listing can be cut after a key, within the filter's folder.

        Fingerprints are returned only if the ranges were compared with the same filter.
        """
        c = range_boundaries.c
        query = sa.select(c.key, c.fingerprint, c.listed, c.filtered, connections.c.compared_with)
        query = query.join(connections, connections.c.id == c.connection)
        query = query.where(c.connection == self.id, c.key > max(select.folder, after))
        with self.database.engine.connect() as db:
            rows = db.execute(query.order_by(c.key)).all()
        return [
            RangeBoundary(*row[:4]) if row.compared_with == select.text else RangeBoundary(row.key)
            for row in rows
            if row.key.startswith(select.folder)
        ]

    def rows_of(self, key: str) -> dict[int, TaskRow]:
        """Return the tasks that an object became, by row."""
        return {row.row: row for row in self.all_rows_of(key)}

    def few_rows_of(self, keys: Sequence[str]) -> dict[str, list[TaskRow]] | None:
        """Return the tasks that some objects became, by row; None if they are more than 10,000."""
        if not keys:
            return {}
        c = tasks.c
        query = sa.select(*_TASK_ROW).where(c.connection == self.id, c.key.in_(keys))
        query = query.order_by(c.key, c.row).limit(FEW_ROWS + 1)
        with self.database.engine.connect() as db:
            found = db.execute(query).all()
        if len(found) > FEW_ROWS:
            return None
        rows: dict[str, list[TaskRow]] = {key: [] for key in keys}
        for row in found:
            rows[row.key].append(TaskRow(*row))
        return rows

    def all_rows_of(self, key: str) -> Iterator[TaskRow]:
        """Yield the tasks that an object became, by row; each page is read when it is asked for."""
        c, first = tasks.c, 0
        query = sa.select(*_TASK_ROW).where(c.connection == self.id, c.key == key)
        query = query.order_by(c.row).limit(PAGE)
        while True:
            with self.database.engine.connect() as db:
                page = [TaskRow(*row) for row in db.execute(query.where(c.row >= first))]
            yield from page
            if len(page) < PAGE:
                return
            first = page[-1].row + 1

    def rows_at(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], TaskRow]:
        """Return what is known of some rows, by key and row."""
        wanted = defaultdict[str, set[int]](set)
        for key, row in places:
            wanted[key].add(row)
        few = self.few_rows_of(list(wanted))
        return {
            (key, row.row): row
            for key, rows in wanted.items()
            for row in (few[key] if few else self._numbered_rows(key, sorted(rows)))
            if row.row in rows
        }

    def _numbered_rows(self, key: str, numbers: Sequence[int]) -> Iterator[TaskRow]:
        c = tasks.c
        query = sa.select(*_TASK_ROW).where(c.connection == self.id, c.key == key)
        with self.database.engine.connect() as db:
            for batch in batches(numbers, PAGE):
                yield from (TaskRow(*row) for row in db.execute(query.where(c.row.in_(batch))))

    def next_rows(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the number that the next new row of each of these objects gets."""
        c, found = objects.c, dict.fromkeys(keys, 0)
        query = sa.select(c.key, c.next_row).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            for batch in batches(keys, PAGE):
                found.update(map(tuple, db.execute(query.where(c.key.in_(batch)))))
        return found

    def has_tasks(self) -> bool:
        """Return whether any task was recorded yet."""
        query = sa.select(tasks.c.task_id).where(tasks.c.connection == self.id, _HAS_TASK).limit(1)
        with self.database.engine.connect() as db:
            return db.scalar(query) is not None

    def rows_with(self, task_ids: Sequence[int]) -> list[TaskRow]:
        """Return the rows that became these tasks."""
        c, found = tasks.c, list[TaskRow]()
        query = sa.select(*_TASK_ROW).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            for batch in batches(task_ids, PAGE):
                some = query.where(c.task_id.in_(batch))
                found += [TaskRow(*row) for row in db.execute(some)]
        return found

    def all_rows(self) -> Iterator[list[TaskRow]]:
        """Return the rows that became tasks, in pages, by key."""
        c, last = tasks.c, ("", -1)
        query = (
            sa.select(*_TASK_ROW).where(c.connection == self.id).order_by(c.key, c.row).limit(PAGE)
        )
        while True:
            later = sa.or_(c.key > last[0], sa.and_(c.key == last[0], c.row > last[1]))
            with self.database.engine.connect() as db:
                page = [TaskRow(*row) for row in db.execute(query.where(later))]
            if not page:
                return
            yield page
            last = (page[-1].key, page[-1].row)

    def count_tasks(self) -> int:
        """Count the rows of objects that are tasks."""
        query = sa.select(sa.func.count()).where(tasks.c.connection == self.id, _HAS_TASK)
        with self.database.engine.connect() as db:
            return db.scalar(query) or 0

    def count(self, prefix: str = "") -> dict[State, int]:
        """Count the known objects whose key starts with ``prefix``, by their state."""
        c = objects.c
        query = sa.select(c.state, sa.func.count()).where(c.connection == self.id)
        query = query.where(c.key >= prefix)
        if end := prefix_end(prefix):
            query = query.where(c.key < end)
        with self.database.engine.connect() as db:
            counted = {State(state): n for state, n in db.execute(query.group_by(c.state))}
        return {state: counted.get(state, 0) for state in State}

    def quarantined(self, limit: int | None = None) -> list[Quarantined]:
        """Return what is in quarantine, in key order."""
        c = quarantine.c
        query = sa.select(
            c.key, c.row, c.version, c.reason, c.reading, c.more, c.failures, c.retry_at
        )
        query = query.where(c.connection == self.id)
        with self.database.engine.connect() as db:
            rows = db.execute(query.order_by(c.key, c.row).limit(limit)).all()
        return [
            Quarantined(key, None if row in {WHOLE_OBJECT, MORE_ROWS} else row, *rest)
            for key, row, *rest in rows
        ]

    def is_quarantined(self, key: str) -> bool:
        """Return whether an object, or a row of it, is in quarantine."""
        c = quarantine.c
        query = sa.select(c.key).where(c.connection == self.id, c.key == key).limit(1)
        with self.database.engine.connect() as db:
            return db.scalar(query) is not None

    def quarantined_keys(self, not_read_as: str | None = None) -> list[str]:
        """Return the keys of the objects in quarantine: all, or those read in another way."""
        c = quarantine.c
        query = sa.select(c.key).where(c.connection == self.id).distinct()
        if not_read_as is not None:
            query = query.where(c.reading != not_read_as)
        with self.database.engine.connect() as db:
            return list(db.scalars(query.order_by(c.key)))

    def retryable(self, reading: str) -> dict[str, int]:
        """Return the objects in quarantine that the next run tries again, with their failures.

        They would be read in another way now, or the bucket failed at them and they are due.
        """
        c, now = quarantine.c, self.database.now()
        # If the ledger's clock was set back, the time of a retry says nothing any more.
        is_due = sa.or_(c.retry_at <= now, c.retry_at > now + RETRY_AT_MOST)
        query = sa.select(c.key, sa.func.max(c.failures)).where(c.connection == self.id)
        query = query.where(sa.or_(c.reading != reading, sa.and_(c.failures > 0, is_due)))
        with self.database.engine.connect() as db:
            return dict(map(tuple, db.execute(query.group_by(c.key).order_by(c.key))))

    def count_quarantined(self) -> int:
        """Count what is in quarantine: objects, and single rows of others."""
        items = sa.case((quarantine.c.more > 0, quarantine.c.more), else_=1)
        query = sa.select(sa.func.sum(items)).where(quarantine.c.connection == self.id)
        with self.database.engine.connect() as db:
            return int(db.scalar(query) or 0)


class ObjectWriter(ObjectRecords, Writer):
    """Records range boundaries and rows that are gone, and releases objects from quarantine."""

    def displace(self, key: str, rows: Sequence[int]) -> None:
        """Record that these rows are gone, so that their positions match no other rows.

        The object is unfinished then: if it is put back, its rows are compared again.
        """
        if not rows:
            return
        own = sa.and_(tasks.c.connection == self.id, tasks.c.key == key)
        change = tasks.update().values(position=NO_POSITION)
        known = sa.and_(objects.c.connection == self.id, objects.c.key == key)
        with self.fence.transaction() as db:
            forget_fingerprints(db, self.id, [key])
            db.execute(objects.update().where(known).values(version=""))
            for batch in batches(rows, PAGE):
                db.execute(change.where(own, tasks.c.row.in_(batch)))

    def set_range_boundaries(self, select: Filter, boundaries: Sequence[RangeBoundary]) -> None:
        """Record where to cut the next listing, and how the bucket wrote its ranges."""
        with self.fence.transaction() as db:
            own = range_boundaries.c.connection == self.id
            db.execute(range_boundaries.delete().where(own))
            db.execute(self.fence.update().values(compared_with=select.text))
            if boundaries:
                values = [{"connection": self.id, **item._asdict()} for item in boundaries]
                db.execute(range_boundaries.insert(), values)

    def release(self, keys: Sequence[str]) -> None:
        """Take objects out of quarantine; the next comparison finds them changed."""
        with self.fence.transaction() as db:
            forget_fingerprints(db, self.id, keys)
            for batch in batches(keys, PAGE):
                self._release(db, batch)

    def _release(self, db: sa.Connection, keys: Sequence[str]) -> None:
        held = sa.and_(quarantine.c.connection == self.id, quarantine.c.key.in_(keys))
        own = sa.and_(objects.c.connection == self.id, objects.c.key.in_(keys))
        db.execute(quarantine.delete().where(held))
        db.execute(objects.delete().where(own, objects.c.state == State.QUARANTINED.value))
        # Some rows of the others are loaded: they stay known, in a version that no bucket lists.
        db.execute(objects.update().where(own).values(version=""))


def forget_fingerprints(db: sa.Connection, connection_id: int, keys: Collection[str]) -> None:
    """Forget how the bucket wrote the ranges that hold these keys, and those between them."""
    if not keys:
        return
    c, first, last = range_boundaries.c, min(keys), max(keys)
    touched = sa.and_(c.connection == connection_id, c.key >= first)
    end = sa.select(sa.func.min(c.key)).where(c.connection == connection_id, c.key >= last)
    through = db.scalar(end)
    if through is not None:
        touched = sa.and_(touched, c.key <= through)
    db.execute(range_boundaries.update().where(touched).values(fingerprint=""))


def reopen(db: sa.Connection, connection_id: int, keys: Collection[str]) -> None:
    """Have known objects stay known in a version that no bucket lists."""
    own = objects.update().where(objects.c.connection == connection_id)
    for batch in batches(list(keys), PAGE):
        db.execute(own.where(objects.c.key.in_(batch)).values(version=""))


_STATES = {state.value: state for state in State}

_known_object = partial(tuple.__new__, KnownObject)
"""As `KnownObject`, without a call in Python: there may be millions."""


def _known_objects(rows: Sequence[sa.Row[Any]]) -> list[KnownObject]:
    if not rows:
        return []
    keys, versions, sizes, states = zip(*rows, strict=True)
    fields = zip(keys, versions, sizes, map(_STATES.__getitem__, states), strict=True)
    return list(map(_known_object, fields))
