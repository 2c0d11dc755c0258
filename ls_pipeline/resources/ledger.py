"""The ledger: which object version became which task, which completion was exported.

SQLAlchemy Core over SQLite or PostgreSQL. Every write of a run goes through its
lease, in one transaction that fails when the lease was lost: a run that was overtaken, or
was paused and wakes, changes nothing.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ls_pipeline.connections import Connection, Source
from ls_pipeline.domain.changes import KnownObject, State
from ls_pipeline.domain.errors import (
    ConnectionFaults,
    LeaseError,
    LeaseLostError,
    LedgerError,
    UnknownConnectionError,
)
from ls_pipeline.domain.exports import TOMBSTONE
from ls_pipeline.domain.ranges import Milestone
from ls_pipeline.resources.lease_holder import holder, is_dead
from ls_pipeline.resources.ledger_database import open_database
from ls_pipeline.resources.ledger_records import (
    Attempt,
    Exported,
    Health,
    LoadedRow,
    Quarantined,
    Revision,
    Training,
)
from ls_pipeline.resources.ledger_tables import (
    attempts,
    completions,
    connections,
    health,
    milestones,
    objects,
    quarantine,
    revisions,
    tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from ls_pipeline.domain.objects import Filter

PAGE = 1000
"""Rows read at once."""

LEASE_SECONDS = 60.0
"""How long a lease outlives its holder's last write; a dead holder on this machine: 0."""

RETRY_AT_FIRST = 30.0
RETRY_AT_MOST = 3600.0
"""Seconds a failing connection waits; doubled with every failure in a row."""

LOOKS = (30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds between looks for tasks that arrive late; a pass that runs anyway looks, too."""

WHOLE_OBJECT = -1
"""The ``row`` of a quarantined object, as against one row of it."""


def retry_delay(failures: int) -> float:
    """Give the seconds to wait after so many failures in a row."""
    return float(min(RETRY_AT_FIRST * 2 ** max(failures - 1, 0), RETRY_AT_MOST))


class Ledger:
    """Our own durable record of all connections. Safe to use from several processes.

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
        self.engine = open_database(url)
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

        Raises ``ConnectionFaults`` when a connection with loaded tasks would get another
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
            last = db.execute(_last_revision(number)).first()
            if onto is not None and not (last and last.number == onto):
                raise ConnectionFaults(connection.name, [_OVERTAKEN])
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
            raise ConnectionFaults(name, [fault])
        mine = connections.update().where(connections.c.id == row.id)
        db.execute(mine.values(project_id=None, fence=row.fence + 1))


def _told(select: Filter) -> str:
    return f"{select.folder}\n{select.regex}"


_OVERTAKEN = "Somebody else changed it meanwhile; look at its settings, and change them again."


def _last_revision(number: int) -> sa.Select[Any]:
    mine = revisions.c.connection == number
    return sa.select(revisions).where(mine).order_by(revisions.c.number.desc()).limit(1)


def _place(source: Source) -> object:
    return source.type, source.path, source.params.endpoint_url


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one connection's account, while its fence is the newest."""

    account: Account
    holder: str
    fence: int


@dataclass(frozen=True)
class Account:
    """One connection's part of the ledger."""

    ledger: Ledger
    id: int
    name: str

    def revision(self) -> Revision:
        """Give the settings in force."""
        with self.ledger.engine.connect() as db:
            row = db.execute(_last_revision(self.id)).one()
        return Revision(row.number, Connection(**row.document), row.saved_at, row.saved_by)

    def history(self) -> list[Revision]:
        """List all revisions of the settings, the newest first."""
        mine = sa.select(revisions).where(revisions.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            rows = db.execute(mine.order_by(revisions.c.number.desc())).all()
        return [
            Revision(row.number, Connection(**row.document), row.saved_at, row.saved_by)
            for row in rows
        ]

    # -- the lease ------------------------------------------------------------------------

    @contextmanager
    def lease(self, patience: float = 0.0) -> Iterator[Lease]:
        """Hold the connection for as long as the block runs.

        Raises ``LeaseError`` when another run still holds it after ``patience`` seconds.
        """
        lease = self._take_within(patience)
        done = threading.Event()
        heart = threading.Thread(target=self._beat, args=(lease, done), daemon=True)
        heart.start()
        try:
            yield lease
        finally:
            done.set()
            heart.join()
            with suppress(LedgerError), self.ledger.engine.begin() as db:  # it also runs out
                db.execute(self._mine(lease).values(holder="", leased_until=0.0))

    def held_by(self) -> str:
        """Name the living holder of the connection's lease; empty when it is free."""
        c = connections.c
        query = sa.select(c.holder, c.leased_until).where(c.id == self.id)
        with self.ledger.engine.connect() as db:
            row = db.execute(query).one()
        free = row.leased_until <= self.ledger.clock() or is_dead(row.holder)
        return "" if free else str(row.holder)

    def _beat(self, lease: Lease, done: threading.Event) -> None:
        """Keep the lease while the process lives; a paused one loses it."""
        while not done.wait(LEASE_SECONDS / 4):
            try:
                self.renew(lease)
            except LeaseLostError:  # noqa: PERF203 - it waits anyway
                return  # the run finds out at its next write
            except LedgerError:
                continue  # a busy database; there is time for another try

    def _take_within(self, patience: float) -> Lease:
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._take()
            except LeaseError:  # noqa: PERF203 - it waits anyway
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)

    def _take(self) -> Lease:
        now, me = self.ledger.clock(), holder()
        with self.ledger.engine.begin() as db:
            row = db.execute(sa.select(connections).where(connections.c.id == self.id)).one()
            if row.leased_until > now and not is_dead(row.holder):
                raise LeaseError(self.name, row.holder)
            taken = db.execute(
                connections.update()
                .where(connections.c.id == self.id, connections.c.fence == row.fence)
                .values(holder=me, fence=row.fence + 1, leased_until=now + LEASE_SECONDS)
            )
            if taken.rowcount != 1:
                raise LeaseError(self.name, "a run that began at the same moment")
        return Lease(self, me, row.fence + 1)

    def _mine(self, lease: Lease) -> sa.Update:
        return connections.update().where(
            connections.c.id == self.id, connections.c.fence == lease.fence
        )

    @contextmanager
    def _write(self, lease: Lease) -> Iterator[sa.Connection]:
        """Open a transaction that renews the lease, or fails when it was lost."""
        until = self.ledger.clock() + LEASE_SECONDS
        with self.ledger.engine.begin() as db:
            if db.execute(self._mine(lease).values(leased_until=until)).rowcount != 1:
                raise LeaseLostError(self.name)
            yield db

    def renew(self, lease: Lease) -> None:
        """Say that the run is alive. Raises ``LeaseLostError``."""
        with self._write(lease):
            pass

    # -- health ---------------------------------------------------------------------------

    def health(self, work: str) -> Health:
        """Tell how the last passes of some work (one of `WORKS`) went."""
        c = health.c
        query = sa.select(c.failures, c.retry_at, c.failure, c.passed_at)
        with self.ledger.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.work == work)).first()
        return Health(*row) if row else Health()

    def failed(self, work: str, failure: str) -> Health:
        """Record that a pass failed, and when the next one is due."""
        before = self.health(work)
        failures = before.failures + 1
        again = self.ledger.clock() + retry_delay(failures)
        return self._record_health(work, Health(failures, again, failure, before.passed_at))

    def recovered(self, work: str) -> None:
        """Record that a pass went well."""
        self._record_health(work, Health(passed_at=self.ledger.clock()))

    def _record_health(self, work: str, new: Health) -> Health:
        with self.ledger.engine.begin() as db:
            self._upsert(db, health, [{"work": work, **_plain(new)}])
        return new

    # -- the project ----------------------------------------------------------------------

    def project_id(self) -> int | None:
        """Give the id of the connection's Label Studio project, once it is known."""
        with self.ledger.engine.connect() as db:
            return db.scalar(sa.select(connections.c.project_id).where(connections.c.id == self.id))

    def set_project_id(self, lease: Lease, project_id: int) -> None:
        """Remember the project."""
        with self._write(lease) as db:
            db.execute(self._mine(lease).values(project_id=project_id))

    # -- local copies ---------------------------------------------------------------------

    def copied(self, side: str) -> str:
        """Tell what the local copy of a side was finished with; empty while it is not."""
        column = connections.c[f"{side}_copy"]
        with self.ledger.engine.connect() as db:
            return db.scalar(sa.select(column).where(connections.c.id == self.id)) or ""

    def set_copied(self, lease: Lease, side: str, what: str) -> None:
        """Record what the local copy of a side is finished with, or with nothing that it is not."""
        with self._write(lease) as db:
            db.execute(self._mine(lease).values({f"{side}_copy": what}))

    # -- objects and tasks ----------------------------------------------------------------

    def known(self, prefix: str = "", after: str = "") -> Iterator[KnownObject]:
        """List the known objects whose key starts with ``prefix``, after ``after``, by key."""
        return (one for page in self.known_pages(prefix, after) for one in page)

    def known_pages(
        self, prefix: str = "", after: str = "", upto: str = ""
    ) -> Iterator[list[KnownObject]]:
        """List the known objects as a bucket lists its own: in byte order, up to 1,000 a page.

        To the end, or up to a key. Reads page by page, so what is written behind the place it has
        reached changes nothing.
        """
        c = objects.c
        mine = sa.select(c.key, c.version, c.size, c.state).where(c.connection == self.id)
        mine = mine.order_by(c.key).limit(PAGE)
        if upto:
            mine = mine.where(c.key <= upto)
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

    def milestones(self, select: Filter, after: str = "") -> list[Milestone]:
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
            Milestone(*row[:4]) if row.compared_with == _told(select) else Milestone(row.key)
            for row in within
        ]

    def set_milestones(self, lease: Lease, select: Filter, cut: Sequence[Milestone]) -> None:
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
        if prefix:
            starts = sa.func.substr(c.key, 1, len(prefix)) == prefix
            query = query.where(c.key >= prefix, starts)
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

    # -- the attempt protocol -------------------------------------------------------------

    def attempts(self) -> list[Attempt]:
        """List the imports whose outcome is not recorded or in doubt, oldest first."""
        query = sa.select(attempts).where(attempts.c.connection == self.id)
        with self.ledger.engine.connect() as db:
            found = db.execute(query.order_by(attempts.c.id)).all()
        return [
            Attempt(
                one.id,
                one.project_id,
                one.above,
                tuple(LoadedRow(*row) for row in one.rows),
                one.opened_at,
                one.looks,
                one.look_at,
            )
            for one in found
        ]

    def has_attempt_due(self) -> bool:
        """Tell whether an attempt is open, or one in doubt is to be looked at again."""
        c = attempts.c
        due = sa.select(c.id).where(c.connection == self.id, c.look_at <= self.ledger.clock())
        with self.ledger.engine.connect() as db:
            return db.scalar(due.limit(1)) is not None

    def open_attempt(
        self, lease: Lease, project_id: int, above: int, rows: Sequence[LoadedRow]
    ) -> Attempt:
        """Record that these rows are about to be imported."""
        plain = [[row.key, row.row, row.version, row.digest] for row in rows]
        now = self.ledger.clock()
        with self._write(lease) as db:
            result = db.execute(
                attempts.insert().values(
                    connection=self.id,
                    project_id=project_id,
                    above=above,
                    rows=plain,
                    opened_at=now,
                )
            )
            key: Any = result.inserted_primary_key
        return Attempt(int(key[0]), project_id, above, tuple(rows), now)

    def doubt(self, lease: Lease, attempt: Attempt) -> None:
        """Keep an attempt under watch, of which tasks may still arrive; in the end let it go."""
        now, mine = self.ledger.clock(), attempts.c.id == attempt.id
        if now < attempt.look_at:
            return
        with self._write(lease) as db:
            if attempt.looks == len(LOOKS):
                db.execute(attempts.delete().where(mine))
            else:
                values = {"looks": attempt.looks + 1, "look_at": now + LOOKS[attempt.looks]}
                db.execute(attempts.update().where(mine).values(values))

    def record(  # noqa: PLR0913 - one transaction, whatever belongs into it
        self,
        lease: Lease,
        *,
        attempt: Attempt | None = None,
        loaded: Iterable[LoadedRow] = (),
        complaints: Iterable[Quarantined] = (),
        finished: Iterable[KnownObject] = (),
        forgotten: Iterable[str] = (),
        dropped: Iterable[LoadedRow] = (),
    ) -> None:
        """Record what became of rows and objects, and close the attempt, all at once.

        An object with loaded rows is known from then on, so that its removal is seen even when
        nobody comes to finish it. ``finished`` objects are dealt with, in that version:
        complaints about their other versions are dropped. ``forgotten`` are keys that are gone
        and left no tasks; ``dropped`` are rows whose tasks are deleted.
        """
        loaded, finished, forgotten = list(loaded), list(finished), list(forgotten)
        with self._write(lease) as db:
            if attempt:
                db.execute(attempts.delete().where(attempts.c.id == attempt.id))
            self._drop_old_complaints(db, finished)
            for table in (objects, quarantine):
                mine = table.c.connection == self.id
                db.execute(table.delete().where(mine, table.c.key.in_(forgotten)))
            for row in dropped:
                c = tasks.c
                where = (c.connection == self.id, c.key == row.key, c.row == row.row)
                db.execute(tasks.delete().where(*where))
            self._upsert(db, tasks, ({**_plain(row)} for row in loaded))
            begun = (KnownObject(key, "", 0, State.BEGUN) for key in {row.key for row in loaded})
            touched = {*(row.key for row in loaded), *(one.key for one in finished), *forgotten}
            self._compare_anew(db, touched)
            self._upsert(db, objects, map(_of_object, begun), replace=False)
            self._upsert(db, objects, map(_of_object, finished))
            self._upsert(
                db,
                quarantine,
                (
                    {**_plain(one), "row": WHOLE_OBJECT if one.row is None else one.row}
                    for one in complaints
                ),
            )

    def _drop_old_complaints(self, db: sa.Connection, finished: Sequence[KnownObject]) -> None:
        c = quarantine.c
        gone = (
            quarantine.delete()
            .where(c.connection == self.id, c.key == sa.bindparam("the_key"))
            .where(c.version != sa.bindparam("the_version"))
        )
        if finished:
            db.execute(
                gone,
                [
                    {
                        "the_key": one.key,
                        "the_version": "" if one.state is State.REMOVED else one.version,
                    }
                    for one in finished
                ],
            )

    def _upsert(
        self,
        db: sa.Connection,
        table: sa.Table,
        rows: Iterable[dict[str, Any]],
        *,
        replace: bool = True,
    ) -> None:
        values = [{"connection": self.id, **row} for row in rows]
        if not values:
            return
        insert = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table)
        change = {
            column.name: statement.excluded[column.name]
            for column in table.columns
            if not column.primary_key
        }
        key = list(table.primary_key.columns)
        if replace:
            statement = statement.on_conflict_do_update(index_elements=key, set_=change)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        db.execute(statement, values)

    # -- completions ----------------------------------------------------------------------

    def exported(self, task_ids: Sequence[int]) -> dict[int, Exported]:
        """Give what was last written for each of these tasks, where anything was."""
        c = completions.c
        found: dict[int, Exported] = {}
        query = sa.select(c.task_id, c.updated_at, c.digest, c.uri, c.annotations)
        with self.ledger.engine.connect() as db:
            for start in range(0, len(task_ids), PAGE):
                some = task_ids[start : start + PAGE]
                mine = query.where(c.connection == self.id, c.task_id.in_(some))
                found |= {row.task_id: Exported(*row) for row in db.execute(mine)}
        return found

    def polled_to(self) -> str:
        """Give the Label Studio time up to which completions were exported; empty at first."""
        query = sa.select(connections.c.polled_to).where(connections.c.id == self.id)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) or ""

    def annotated(self) -> int:
        """Give the count of annotated tasks in the project when they were last exported."""
        query = sa.select(connections.c.annotated).where(connections.c.id == self.id)
        with self.ledger.engine.connect() as db:
            return db.scalar(query) or 0

    def living(self) -> dict[int, Exported]:
        """Give what was last written for all tasks that are not known to be deleted, by id."""
        c = completions.c
        query = sa.select(c.task_id, c.updated_at, c.digest, c.uri, c.annotations)
        mine = query.where(c.connection == self.id, c.digest != TOMBSTONE)
        with self.ledger.engine.connect() as db:
            return {row.task_id: Exported(*row) for row in db.execute(mine)}

    def exported_ids(self) -> list[int]:
        """List the tasks that have annotations in the target, by id."""
        return [task_id for task_id, _ in self.exported_contents()]

    def count_exported(self) -> tuple[int, int]:
        """Count the tasks that have annotations in the target, and the annotations."""
        c = completions.c
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.annotations), 0))
        with self.ledger.engine.connect() as db:
            row = db.execute(query.where(c.connection == self.id, c.annotations > 0)).one()
        return int(row[0]), int(row[1])

    def exported_contents(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[tuple[int, str]]:
        """Give (task id, digest) of the tasks that have annotations in the target, by id."""
        return ((row.task_id, row.digest) for row in self._in_target(first, last))

    def exported_files(self) -> Iterator[tuple[int, str]]:
        """Give (task id, URI) of the tasks that have annotations in the target, by id."""
        return ((row.task_id, row.uri) for row in self._in_target())

    def _in_target(self, first: int = 0, last: int = 2**63 - 1) -> Iterator[sa.Row[Any]]:
        c = completions.c
        query = sa.select(c.task_id, c.digest, c.uri).where(
            c.connection == self.id, c.annotations > 0, c.task_id <= last
        )
        while True:
            page = query.where(c.task_id >= first).order_by(c.task_id).limit(PAGE)
            with self.ledger.engine.connect() as db:
                rows = db.execute(page).all()
            if not rows:
                return
            yield from rows
            first = rows[-1].task_id + 1

    def forget_exports(self, lease: Lease, task_ids: Sequence[int]) -> None:
        """Forget what was written for some tasks: the next export looks at all, and writes them."""
        c = completions.c
        with self._write(lease) as db:
            for start in range(0, len(task_ids), PAGE):
                some = task_ids[start : start + PAGE]
                db.execute(completions.delete().where(c.connection == self.id, c.task_id.in_(some)))
            db.execute(self._mine(lease).values(polled_to=""))

    def training(self) -> Training:
        """Tell how training data stands."""
        c = connections.c
        query = sa.select(c.exports_moved, c.snapshot_of, c.snapshot_at, c.snapshot_uri)
        with self.ledger.engine.connect() as db:
            return Training(*db.execute(query.where(c.id == self.id)).one())

    def record_snapshot(self, lease: Lease, moved: int, uri: str) -> None:
        """Record that a snapshot holds all that had changed by count ``moved``."""
        values = {"snapshot_of": moved, "snapshot_uri": uri, "snapshot_at": self.ledger.clock()}
        with self._write(lease) as db:
            db.execute(self._mine(lease).values(values))

    def record_exports(
        self, lease: Lease, exported: Iterable[Exported], *, moved: bool = True
    ) -> None:
        """Record what is in the target; ``moved`` says whether any of it is new there."""
        with self._write(lease) as db:
            self._upsert(db, completions, ({**_plain(one)} for one in exported))
            if moved:
                db.execute(self._mine(lease).values(exports_moved=connections.c.exports_moved + 1))

    def record_exported(self, lease: Lease, polled_to: str, annotated: int) -> None:
        """Record that all is exported: up to which Label Studio time, of how many tasks."""
        with self._write(lease) as db:
            db.execute(self._mine(lease).values(polled_to=polled_to, annotated=annotated))


_STATES = {state.value: state for state in State}

_known_object = partial(tuple.__new__, KnownObject)
"""As `KnownObject`, without a call in Python: there may be millions."""


def _known(rows: Sequence[sa.Row[Any]]) -> list[KnownObject]:
    if not rows:
        return []
    keys, versions, sizes, states = zip(*rows, strict=True)
    fields = zip(keys, versions, sizes, map(_STATES.__getitem__, states), strict=True)
    return list(map(_known_object, fields))


def _of_object(one: KnownObject) -> dict[str, Any]:
    return {**one._asdict(), "state": one.state.value}


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
