"""What runs are about to do, and what became of it: how each effect happens once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.resources.ledger.exports import update_files
from ls_pipeline.resources.ledger.objects import (
    MORE_ROWS,
    WHOLE_OBJECT,
    forget_fingerprints,
    reopen,
)
from ls_pipeline.resources.ledger.records import Intent, Kind, Quarantined, TaskRow
from ls_pipeline.resources.ledger.section import PAGE, Records, Writer, columns
from ls_pipeline.resources.ledger.sidecars import (
    has_sidecars,
    reopen_outdated,
    versions_with_sidecars,
)
from ls_pipeline.resources.ledger.tables import (
    completions,
    connections,
    intents,
    objects,
    quarantine,
    sidecars,
    tasks,
)
from ls_pipeline.resources.ledger.upsert import Merge, new

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ls_pipeline.resources.ledger.records import LedgerUpdate

LOOK_SECONDS = (30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 4000.0)
"""Pauses between looks for effects that come late: two hours. Any run looks, too."""


class IntentRecords(Records):
    """Intents whose outcome is open."""

    def open(self, *kinds: Kind) -> list[Intent]:
        """Return the open intents of some kinds, or of all, oldest first."""
        c = intents.c
        query = sa.select(intents).where(c.connection == self.id)
        if kinds:
            query = query.where(c.kind.in_([kind.value for kind in kinds]))
        with self.database.engine.connect() as db:
            return list(map(_intent, db.execute(query.order_by(c.id))))

    def is_look_due(self, *kinds: Kind) -> bool:
        """Return whether a run should look for the effects of an open intent of some kinds."""
        c, now = intents.c, self.database.now()
        passed = sa.or_(c.look_at <= now, c.look_at > now + max(LOOK_SECONDS))  # a clock set back
        due = sa.select(c.id).where(c.connection == self.id, passed)
        due = due.where(c.kind.in_([kind.value for kind in kinds]))
        with self.database.engine.connect() as db:
            return db.scalar(due.limit(1)) is not None


class IntentWriter(IntentRecords, Writer):
    """Records intents, and what became of rows and objects."""

    def begin(self, intent: Intent) -> tuple[Intent, int]:
        """Record an intent, and that its objects or files are unfinished.

        Returns it as recorded, and the connection's new generation.
        """
        now = self.database.now()
        values = {
            "connection": self.id,
            "kind": intent.kind.value,
            "rows": [[*columns(row).values()] for row in intent.rows],
            "began_at": now,
            **{name: getattr(intent, name) for name in _PLAIN},
        }
        with self.fence.transaction() as db:
            generation = self._next_generation(db)
            result = db.execute(intents.insert().values(values))
            key: Any = result.inserted_primary_key
            if intent.kind is Kind.WRITE:
                self._begin_files(db, intent)
            else:
                rows = intent.rows if intent.kind is Kind.IMPORT else ()
                self._begin_objects(db, self._unfinished(db, intent), rows)
        return replace(intent, id=int(key[0]), began_at=now), generation

    def keep_open(self, intent: Intent) -> None:
        """Schedule the next look for late effects; after the last one, forget the intent."""
        now = self.database.now()
        if now < intent.look_at <= now + max(LOOK_SECONDS):
            return
        with self.fence.transaction() as db:
            if intent.looks == len(LOOK_SECONDS):
                _forget(db, intent)
            else:
                again = now + LOOK_SECONDS[intent.looks]
                values = {"looks": intent.looks + 1, "look_at": again}
                db.execute(intents.update().where(intents.c.id == intent.id).values(values))

    def close(self, intent: Intent) -> None:
        """Record that nothing of an intent is open any more."""
        with self.fence.transaction() as db:
            _forget(db, intent)

    def record(self, update: LedgerUpdate, closing: Intent | None = None) -> set[str]:
        """Record what became of rows and objects, and close an intent, in one transaction.

        Returns the keys of objects that have to be read again, because of their sidecars.

        An object is known as soon as one of its rows is loaded. So its removal is noticed even if
        no run finishes it. An object that is finished in one version drops what is in quarantine
        of its other versions.
        """
        done = {known.key for known in update.finished}
        begun = {row.key for row in update.loaded} - done
        with self.fence.transaction() as db:
            if closing:
                _forget(db, closing)
            with_sidecars = has_sidecars(db, self.id)
            self._drop_old_quarantine(db, update.finished, with_sidecars=with_sidecars)
            all_of_object = (objects, quarantine, tasks, sidecars)
            for table in all_of_object if update.forgotten else ():
                own = table.c.connection == self.id
                db.execute(table.delete().where(own, table.c.key.in_(update.forgotten)))
            dropped = [(row.key, row.row) for row in update.dropped]
            self._delete(db, tasks.c.key, tasks.c.row, dropped)
            self.upsert(db, tasks, map(columns, update.loaded))
            forget_fingerprints(db, self.id, {*begun, *done, *update.forgotten, *update.reopened})
            self._know(db, begun, update.loaded, _KNOW)
            reopen(db, self.id, update.reopened)
            self.upsert(db, objects, map(_object_columns, update.finished))
            self.upsert(db, quarantine, map(_quarantine_columns, update.quarantined))
            if with_sidecars:
                return reopen_outdated(db, self.id, update.finished, update.forgotten)
        return set()

    def _next_generation(self, db: sa.Connection) -> int:
        c = connections.c
        db.execute(self.fence.update().values(generation=c.generation + 1))
        return int(db.scalar(sa.select(c.generation).where(c.id == self.id)) or 0)

    def _begin_files(self, db: sa.Connection, intent: Intent) -> None:
        """Record that the target may hold either content of these files."""
        files = (
            {
                "task_id": row.task_id,
                "updated_at": "",
                "digest": "",
                "uri": intent.root + row.key,
                "annotations": 0,
                "version": row.version,
                "size": 0,
            }
            for row in intent.rows
        )
        self.upsert(db, completions, files, merge=None)
        update_files(db, self.id, [row.task_id for row in intent.rows], digest="")

    def _unfinished(self, db: sa.Connection, intent: Intent) -> set[str]:
        """Return the keys of the objects that an intent leaves unfinished.

        An object stays finished if the task to delete is not its row's, but one made twice.
        """
        keys = {row.key for row in intent.rows}
        if intent.kind is not Kind.DELETE:
            return keys
        c, ids = tasks.c, {row.task_id for row in intent.rows}
        ordered, own = sorted(keys), set[str]()
        for batch in batches(ordered, PAGE):
            some = c.key.in_(batch)
            found = db.execute(sa.select(c.key, c.task_id).where(c.connection == self.id, some))
            own |= {row.key for row in found if row.task_id in ids}
        return own

    def _begin_objects(
        self, db: sa.Connection, keys: Collection[str], rows: Sequence[TaskRow]
    ) -> None:
        """Record that objects are unfinished; the next comparison finds them changed.

        Records the numbers of rows, too, so that no other rows of these objects get them.
        """
        forget_fingerprints(db, self.id, keys)
        self._know(db, keys, rows, _REOPEN)

    def _know(
        self, db: sa.Connection, keys: Collection[str], rows: Sequence[TaskRow], merge: Merge
    ) -> None:
        """Record objects as begun, and the numbers of their rows."""
        next_rows = dict[str, int]()
        for row in rows:
            next_rows[row.key] = max(next_rows.get(row.key, 0), row.row + 1)
        begun = {"version": "", "size": 0, "state": State.BEGUN.value}
        known = ({"key": key, **begun, "next_row": next_rows.get(key, 0)} for key in keys)
        self.upsert(db, objects, known, merge=merge)

    def _drop_old_quarantine(
        self, db: sa.Connection, finished: Sequence[KnownObject], *, with_sidecars: bool
    ) -> None:
        """Drop what is in quarantine of other versions of objects."""
        versions = {
            known.key: "" if known.state is State.REMOVED else known.version for known in finished
        }
        if with_sidecars:
            versions = versions_with_sidecars(db, self.id, versions)
        current = self._quarantined_versions(db, list(versions))
        old = [(key, version) for key, version in current if version != versions[key]]
        self._delete(db, quarantine.c.key, quarantine.c.version, old)

    def _quarantined_versions(
        self, db: sa.Connection, keys: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        c = quarantine.c
        if db.scalar(sa.select(c.key).where(c.connection == self.id).limit(1)) is None:
            return
        for batch in batches(keys, PAGE):
            some = c.key.in_(batch)
            rows = db.execute(sa.select(c.key, c.version).where(c.connection == self.id, some))
            yield from map(tuple, rows)

    def _delete(
        self,
        db: sa.Connection,
        first: sa.Column[Any],
        second: sa.Column[Any],
        values: Sequence[tuple[Any, Any]],
    ) -> None:
        """Delete the rows of a table with these values in two columns."""
        if not values:
            return
        table = first.table
        matches = (first == sa.bindparam("first"), second == sa.bindparam("second"))
        delete = sa.delete(table).where(table.c.connection == self.id, *matches)
        db.execute(delete, [{"first": left, "second": right} for left, right in values])


def _forget(db: sa.Connection, intent: Intent) -> None:
    db.execute(intents.delete().where(intents.c.id == intent.id))


def _if_removed(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return the new value of a column for an object that was removed, else the old one."""
    removed: sa.ColumnElement[str] = sa.literal_column(f"'{State.REMOVED.value}'")
    return sa.case((objects.c.state == removed, new(column)), else_=column)


_NEXT_ROW = objects.c.next_row

_KNOW = Merge(
    {
        **{name: _if_removed(objects.c[name]) for name in ("version", "size", "state")},
        "next_row": sa.case((new(_NEXT_ROW) > _NEXT_ROW, new(_NEXT_ROW)), else_=_NEXT_ROW),
    }
)
"""Objects that are known already stay as they are, but for the numbers of their rows."""

_REOPEN = Merge({**_KNOW.columns, "version": new(objects.c.version)})
"""They become unfinished."""

_PLAIN = ("token", "root", "revision", "project_id", "above")
"""Fields of an intent that are columns as they are."""


def _intent(row: sa.Row[Any]) -> Intent:
    return Intent(
        Kind(row.kind),
        tuple(TaskRow(*values) for values in row.rows),
        id=row.id,
        began_at=row.began_at,
        looks=row.looks,
        look_at=row.look_at,
        **{name: getattr(row, name) for name in _PLAIN},
    )


def _object_columns(known: KnownObject) -> dict[str, Any]:
    return {**known._asdict(), "state": known.state.value}


def _quarantine_columns(item: Quarantined) -> dict[str, Any]:
    whole = MORE_ROWS if item.more else WHOLE_OBJECT
    return {**columns(item), "row": whole if item.row is None else item.row}
