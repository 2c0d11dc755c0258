"""The ledger: which object version became which task, and which completion was exported.

SQLAlchemy Core over SQLite or PostgreSQL. A run writes through the connection that it holds; each
of its transactions fails if a newer run has taken that connection.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.errors import InvalidConnectionError, LedgerError, UnknownConnectionError
from ls_pipeline.resources.ledger.connection import ConnectionLedger
from ls_pipeline.resources.ledger.database import Database
from ls_pipeline.resources.ledger.heartbeats import Heartbeats
from ls_pipeline.resources.ledger.looks import record_changes, record_looks
from ls_pipeline.resources.ledger.records import Declared
from ls_pipeline.resources.ledger.settings import raw_setting
from ls_pipeline.resources.ledger.status import ConnectionStatus, statuses
from ls_pipeline.resources.ledger.tables import (
    completions,
    connections,
    declarations,
    health,
    heartbeats,
    intents,
    last_revision,
    objects,
    projects,
    revisions,
    tasks,
)
from ls_pipeline.resources.ledger.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.settings.model import Connection


class Ledger:
    """The record of all connections. Several processes may use it at once.

    Raises ``LedgerError`` if the database can't be opened. Any method, also of the connections'
    ledgers, raises it if the database fails.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.database = Database(url, clock, sleep)
        self.heartbeats = Heartbeats(self.database)
        self.ticks = Ticks(self.database)

    def close(self) -> None:
        """Close the connections to the database; the next use opens new ones."""
        self.database.engine.dispose()

    def now(self) -> float:
        """Return the ledger's time in seconds since 1970."""
        return self.database.now()

    def check_writes(self) -> None:
        """Write a text that is not ASCII, read it, and take it back.

        Raises ``LedgerError`` if that fails, as every run would.
        """
        row = {"run_id": "doctor 猫", "holder": "doctor", "seen_at": 0.0}
        with self.database.engine.connect() as db:
            db.execute(heartbeats.insert().values(row))
            query = sa.select(heartbeats.c.run_id).where(heartbeats.c.run_id == row["run_id"])
            if db.scalar(query) != row["run_id"]:
                raise LedgerError(
                    "The ledger's database does not return a text as it was written.",
                    hint="Use a database whose encoding is UTF8.",
                )
            db.rollback()

    def names(self) -> list[str]:
        """Return the names of the connections in use, in order."""
        query = sa.select(connections.c.name).where(~connections.c.removed)
        with self.database.engine.connect() as db:
            return sorted(db.scalars(query))

    def removed_names(self) -> set[str]:
        """Return the names of connections that were removed and did not come back."""
        c = connections.c
        with self.database.engine.connect() as db:
            rows = db.execute(sa.select(c.name, c.removed)).all()
        in_use = {row.name for row in rows if not row.removed}
        return {row.name for row in rows} - in_use

    def connection_ledger(self, name: str) -> ConnectionLedger:
        """Return one connection's part of the ledger. Raises ``UnknownConnectionError``."""
        query = sa.select(connections.c.id).where(
            connections.c.name == name, ~connections.c.removed
        )
        with self.database.engine.connect() as db:
            connection_id = db.scalar(query)
        if connection_id is None:
            raise UnknownConnectionError(name, self.names())
        return ConnectionLedger(self.database, connection_id, name)

    def settings_of(self, name: str) -> Revision | None:
        """Return the settings in force of a connection; None if there is none of that name."""
        c = connections.c
        with self.database.engine.connect() as db:
            row = db.execute(sa.select(c.id).where(c.name == name, ~c.removed)).first()
        return ConnectionLedger(self.database, row.id, name).settings.in_force() if row else None

    def acquire(self, name: str, patience: float = 0.0) -> AbstractContextManager[HeldConnection]:
        """Hold a connection, as ``ConnectionLedger.acquire`` does.

        Raises ``UnknownConnectionError``.
        """
        return self.connection_ledger(name).acquire(patience)

    def statuses(self) -> list[ConnectionStatus]:
        """Return the status of every connection in use, by name, all as of one moment."""
        return statuses(self.database)

    def connection(self, name: str) -> Connection:
        """Return a connection with the settings in force.

        Raises ``UnknownConnectionError`` and ``StoredSettingsError``.
        """
        return self.connection_ledger(name).settings.in_force().connection

    def save(
        self,
        connection: Connection,
        saved_by: str,
        onto: int | None = None,
        declared: Declared | None = None,
    ) -> int:
        """Store a connection, new or changed, as its next revision; return the revision's number.

        The same settings again make no new revision. A removed connection that comes back with the
        same source bucket and project continues with its old records, so that nothing is loaded
        twice. ``onto`` is the revision that was changed, if there was one; ``declared`` is what was
        applied, if code declares the connection.

        Raises ``InvalidConnectionError`` if a connection with loaded tasks would get another
        source bucket or project, and if another change came first.
        """
        try:
            return self._save(connection, saved_by, onto, declared)
        except sa.exc.IntegrityError:
            # Another process made a connection of that name at the same moment: now it exists.
            return self._save(connection, saved_by, onto, declared)

    def declarations(self, name: str = "") -> dict[str, Declared]:
        """Return the declarations that were applied last, or that of one connection, by name."""
        query = sa.select(declarations)
        with self.database.engine.connect() as db:
            rows = db.execute(query.where(declarations.c.name == name) if name else query).all()
        return {row.name: Declared(row.document, row.place) for row in rows}

    def _save(
        self, connection: Connection, saved_by: str, onto: int | None, declared: Declared | None
    ) -> int:
        document = connection.model_dump(mode="json")
        with self.database.engine.begin() as db:
            self._lock_out_writers(db, connection.name)
            connection_id = self._id_for(db, connection)
            last = db.execute(last_revision(connection_id)).first()
            if onto is not None and not (last and last.number == onto):
                raise InvalidConnectionError(connection.name, [OVERTAKEN])
            own = connections.update().where(connections.c.id == connection_id)
            db.execute(own.values(removed=False))
            if declared:
                db.execute(declarations.delete().where(declarations.c.name == connection.name))
                row = {"name": connection.name, **asdict(declared)}
                db.execute(declarations.insert().values(row))
            if last and raw_setting(last.document, "target") != document["target"]:
                # Another place or filter for completions: the next export reads all of them.
                count = connections.c.export_changes + 1
                db.execute(own.values(polled_to="", export_changes=count))
            if last and last.document == document:
                return int(last.number)
            # What a person had to decide may be decided by this change: the next run finds out.
            undecided = health.update().where(
                health.c.connection == connection_id, health.c.needs_decision
            )
            db.execute(undecided.values(retry_at=0.0))
            number = last.number + 1 if last else 1
            db.execute(
                revisions.insert().values(
                    connection=connection_id,
                    number=number,
                    document=document,
                    saved_at=self.now(),
                    saved_by=saved_by,
                )
            )
        return number

    def remove(self, name: str) -> None:
        """Take a connection out of use. Its records stay, in case it comes back.

        Raises ``UnknownConnectionError``.
        """
        found = self.connection_ledger(name)
        with self.database.engine.begin() as db:
            own = connections.update().where(connections.c.id == found.id)
            db.execute(own.values(removed=True))

    def record_looks(self, work: str, found: Mapping[str, str]) -> None:
        """Record why looks at connections failed, by name; an empty reason: it did not."""
        record_looks(self.database, work, found)

    def record_changes(self, work: str, found: Mapping[str, int | None]) -> None:
        """Record of how many objects looks found changes, by name; 0: unknown; None: no change."""
        record_changes(self.database, work, found)

    def mark_webhook(self, name: str) -> None:
        """Record that a webhook reported a change of a connection's labels; unknown names pass.

        It needs no lease, so a run that holds the connection is not disturbed.
        """
        c = connections.c
        own = connections.update().where(c.name == name, ~c.removed)
        with self.database.engine.begin() as db:
            db.execute(own.values(webhook_at=self.now()))

    def webhook_times(self) -> dict[str, float]:
        """Return when a webhook last reported a change of labels, by connection."""
        c = connections.c
        query = sa.select(c.name, c.webhook_at).where(c.webhook_at > 0, ~c.removed)
        with self.database.engine.connect() as db:
            return {row.name: row.webhook_at for row in db.execute(query)}

    def _lock_out_writers(self, db: sa.Connection, name: str) -> None:
        """Wait until other writers are done, and let none begin before this transaction ends.

        PostgreSQL locks the rows, SQLite everything. What is read from now on is the newest.
        """
        db.execute(connections.update().where(connections.c.name == name).values(name=name))

    def _id_for(self, db: sa.Connection, connection: Connection) -> int:
        c = connections.c
        named = sa.select(connections).where(c.name == connection.name)
        for row in db.execute(named.order_by(c.removed, c.id.desc())).all():
            moved = self._has_moved(db, row.id, connection)
            if not row.removed and moved:
                self._start_over(db, row, connection.name)
            if not row.removed or not moved:
                return int(row.id)
        result = db.execute(connections.insert().values(name=connection.name))
        key: Any = result.inserted_primary_key
        return int(key[0])

    def _has_moved(self, db: sa.Connection, connection_id: int, connection: Connection) -> bool:
        """Return whether a connection has another source bucket or project than its records.

        A source that was taken away and comes back is the same source. Of settings that this
        version refuses, what can be read counts.
        """
        own = sa.select(revisions.c.document).where(revisions.c.connection == connection_id)
        before = list(db.scalars(own.order_by(revisions.c.number.desc())))
        new = connection.model_dump(mode="json")
        places = (_place(raw_setting(document, "source")) for document in before)
        place, new_place = next(filter(None, places), None), _place(new["source"])
        if place and new_place and place != new_place:
            return True
        projects = (raw_setting(document, "project") for document in before)
        return bool(next(filter(None, projects), connection.project) != connection.project)

    def _start_over(self, db: sa.Connection, row: sa.Row[Any], name: str) -> None:
        """Let a connection without records move; fence off a run that is about to write some."""
        filled = (
            db.execute(sa.select(table).where(table.c.connection == row.id).limit(1)).first()
            for table in (objects, tasks, intents, completions)
        )
        if any(filled):
            error = (
                "It exists with another source bucket or project, whose tasks are loaded; "
                "choose another name, or remove that connection first."
            )
            raise InvalidConnectionError(name, [error])
        db.execute(projects.delete().where(projects.c.connection == row.id))
        own = connections.update().where(connections.c.id == row.id)
        db.execute(own.values(fence=row.fence + 1))


OVERTAKEN = "It was changed in between; look at its settings, and change them again."


def _place(source: object) -> object:
    """Return what tells a source from others; None if it names none."""
    match source:
        case {"type": cloud, "path": path, "params": {"endpoint_url": endpoint_url}}:
            return cloud, path, endpoint_url or ""
        case {"type": cloud, "path": path}:
            return cloud, path, ""
    return None
