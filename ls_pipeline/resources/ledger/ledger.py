"""The ledger: which object version became which task, which completion was exported.

SQLAlchemy Core over SQLite or PostgreSQL. Every write of a run goes through its
lease, in one transaction that fails when the lease was lost: a run that was overtaken, or
was paused and wakes, changes nothing.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.domain.errors import InvalidConnectionError, UnknownConnectionError
from ls_pipeline.resources.ledger.connection import Account
from ls_pipeline.resources.ledger.database import open_database
from ls_pipeline.resources.ledger.status import Standing, standings
from ls_pipeline.resources.ledger.tables import (
    attempts,
    completions,
    connections,
    last_revision,
    objects,
    projects,
    revisions,
    tasks,
)
from ls_pipeline.settings.model import Connection, Source

if TYPE_CHECKING:
    from collections.abc import Callable


class Ledger:
    """Our own durable record of all connections. Safe to use from several processes.

    ``schema_before`` is the number of the schema that opening it found.

    Raises ``LedgerError`` when the database can't be opened, and any method of it or of an
    `Account` when the database fails.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.clock, self.sleep = clock, sleep
        self.engine, self.schema_before = open_database(url)
        weakref.finalize(self, self.engine.dispose)  # at the process's end, too

    def names(self) -> list[str]:
        """List the connections, in the order of their names."""
        query = sa.select(connections.c.name).where(~connections.c.removed)
        with self.engine.connect() as db:
            return sorted(db.scalars(query))

    def account(self, name: str) -> Account:
        """Give one connection's part of the ledger.

        Raises ``UnknownConnectionError``.
        """
        query = sa.select(connections.c.id).where(
            connections.c.name == name, ~connections.c.removed
        )
        with self.engine.connect() as db:
            number = db.scalar(query)
        if number is None:
            raise UnknownConnectionError(name, self.names())
        return Account(self, number, name)

    def standings(self) -> list[Standing]:
        """Tell how every connection stands, in the order of their names, all at one moment."""
        return standings(self)

    def connection(self, name: str) -> Connection:
        """Give a connection with the settings in force.

        Raises ``UnknownConnectionError``.
        """
        return self.account(name).revision().connection

    def save(self, connection: Connection, saved_by: str, onto: int | None = None) -> int:
        """Store a connection, new or changed, as its next revision; give its number.

        The same settings again are no new revision. A removed connection that comes back
        with the same source bucket and project takes up its old account, so that nothing
        is loaded twice. ``onto`` is the revision that the change was made to, if one was.

        Raises ``InvalidConnectionError`` when a connection with loaded tasks would get another
        source bucket or project: what its account says would no longer be true; and when
        another change came first.
        """
        try:
            return self._save(connection, saved_by, onto)
        except sa.exc.IntegrityError:
            # Somebody made a connection of that name at the same moment: now it is there.
            return self._save(connection, saved_by, onto)

    def _save(self, connection: Connection, saved_by: str, onto: int | None) -> int:
        document = connection.model_dump(mode="json")
        with self.engine.begin() as db:
            self._wait_for_others(db, connection.name)
            number = self._number_for(db, connection)
            last = db.execute(last_revision(number)).first()
            if onto is not None and not (last and last.number == onto):
                raise InvalidConnectionError(connection.name, [OVERTAKEN])
            mine = connections.update().where(connections.c.id == number)
            db.execute(mine.values(removed=False))
            if last and last.document["target"] != document["target"]:
                # Another place or filter for completions: look at all of them again.
                moved = connections.c.exports_moved + 1
                db.execute(mine.values(polled_to="", exports_moved=moved))
            if last and last.document == document:
                return int(last.number)
            revision = last.number + 1 if last else 1
            db.execute(
                revisions.insert().values(
                    connection=number,
                    number=revision,
                    document=document,
                    saved_at=self.clock(),
                    saved_by=saved_by,
                )
            )
        return revision

    def remove(self, name: str) -> None:
        """Take a connection out of use; its account is kept, in case it comes back.

        Raises ``UnknownConnectionError``.
        """
        account = self.account(name)
        with self.engine.begin() as db:
            db.execute(
                connections.update().where(connections.c.id == account.id).values(removed=True)
            )

    def hint(self, name: str) -> None:
        """Record that something was said to have happened to a connection's labels, if it is one.

        It takes no lease: whoever works on the connection is not in its way.
        """
        c = connections.c
        mine = connections.update().where(c.name == name, ~c.removed)
        with self.engine.begin() as db:
            db.execute(mine.values(hinted_at=self.clock()))

    def hinted(self) -> dict[str, float]:
        """Give when something was last said of which connection's labels."""
        c = connections.c
        query = sa.select(c.name, c.hinted_at).where(c.hinted_at > 0, ~c.removed)
        with self.engine.connect() as db:
            return {row.name: row.hinted_at for row in db.execute(query)}

    def _wait_for_others(self, db: sa.Connection, name: str) -> None:
        """Let who is writing come to an end, and nobody else write until we do.

        PostgreSQL locks the rows, SQLite everything; what is read from now on is the newest.
        """
        db.execute(connections.update().where(connections.c.name == name).values(name=name))

    def _number_for(self, db: sa.Connection, connection: Connection) -> int:
        c = connections.c
        named = sa.select(connections).where(c.name == connection.name)
        for row in db.execute(named.order_by(c.removed, c.id.desc())).all():
            moved = self._moved(db, row.id, connection)
            if not row.removed and moved:
                self._start_afresh(db, row, connection.name)
            if not row.removed or not moved:
                return int(row.id)
        result = db.execute(connections.insert().values(name=connection.name))
        key: Any = result.inserted_primary_key
        return int(key[0])

    def _moved(self, db: sa.Connection, number: int, connection: Connection) -> bool:
        """Tell whether a connection has another source bucket or project than its account.

        A source that was taken away and comes back is the same source.
        """
        mine = sa.select(revisions.c.document).where(revisions.c.connection == number)
        documents = db.scalars(mine.order_by(revisions.c.number.desc()))
        before = [Connection(**document) for document in documents]
        sources = [one.source for one in before if one.source]
        if sources and connection.source and _place(sources[0]) != _place(connection.source):
            return True
        return before[0].project != connection.project

    def _start_afresh(self, db: sa.Connection, row: sa.Row[Any], name: str) -> None:
        """Let an account with nothing in it move; fence off a run that is about to fill it."""
        filled = (
            db.execute(sa.select(table).where(table.c.connection == row.id).limit(1)).first()
            for table in (objects, tasks, attempts, completions)
        )
        if any(filled):
            fault = (
                "It exists with another source bucket or project, whose tasks are loaded; "
                "give this one another name, or remove that one first."
            )
            raise InvalidConnectionError(name, [fault])
        db.execute(projects.delete().where(projects.c.connection == row.id))
        mine = connections.update().where(connections.c.id == row.id)
        db.execute(mine.values(fence=row.fence + 1))


OVERTAKEN = "Somebody else changed it meanwhile; look at its settings, and change them again."


def _place(source: Source) -> object:
    return source.type, source.path, source.params.endpoint_url
