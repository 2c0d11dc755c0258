"""The lease on a connection, and the fence that it puts around every write."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.errors import LeaseError, LeaseLostError, LedgerError, RunTooLongError
from ls_pipeline.resources.ledger.tables import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ls_pipeline.resources.ledger.database import Database

LEASE_SECONDS = 60.0
"""How long a lease outlives its holder's last write. A dead holder on this machine: 0."""

LONGEST_HOLD = 86_400.0
"""Seconds after which a lease is renewed no more, if its holder sets no limit of its own."""

RETRY_SECONDS = 0.2
"""Pause between two tries to take a lease that another run holds."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write one connection's records, until a newer run takes the connection.

    ``number`` grows with each run that holds the connection. ``overtaken`` is the holder before,
    if it never released the lease: it died, or it sleeps.
    """

    database: Database
    id: int
    connection: str
    number: int
    overtaken: str = ""
    seconds: float = LONGEST_HOLD
    """How long the connection may be held."""
    taken_at: float = field(default_factory=time.monotonic)
    """On the monotonic clock, which no one sets."""

    @property
    def is_too_old(self) -> bool:
        """Whether the connection was held for too long."""
        return time.monotonic() >= self.taken_at + self.seconds

    def check_time(self) -> None:
        """Raise ``RunTooLongError`` if the connection was held for too long."""
        if self.is_too_old:
            raise RunTooLongError(self.connection, self.seconds)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Open a transaction that renews the lease. Raises ``LeaseLostError`` if it is lost."""
        with self.database.engine.begin() as db:
            until = self.database.now_expression() + LEASE_SECONDS
            if db.execute(self.update().values(leased_until=until)).rowcount != 1:
                raise LeaseLostError(self.connection)
            yield db

    def update(self) -> sa.Update:
        """Return an update of the connection's own row that matches only behind this fence."""
        return connections.update().where(
            connections.c.id == self.id, connections.c.fence == self.number
        )

    def renew(self) -> None:
        """Renew the lease. Raises ``LeaseLostError`` and ``RunTooLongError``."""
        self.check_time()
        with self.transaction():
            pass


@contextmanager
def leased(
    database: Database,
    connection_id: int,
    name: str,
    patience: float,
    run_id: str,
    seconds: float = LONGEST_HOLD,
) -> Iterator[Fence]:
    """Hold a connection while the block runs, for ``seconds`` at most.

    After that it begins no further effect, and its lease runs out, even if it hangs. Raises
    ``LeaseError`` if another run still holds the connection after ``patience`` seconds.
    """
    taken = _take_within(database, connection_id, name, patience, run_id)
    fence = replace(taken, seconds=seconds)
    try:
        with beating(fence.renew, seconds):
            yield fence
    finally:
        with suppress(LedgerError), database.engine.begin() as db:  # it also expires
            db.execute(fence.update().values(holder="", leased_until=0.0))


def living_holder(holder: str, leased_until: float, now: float) -> str:
    """Return the holder of a lease; empty if the lease is free."""
    return "" if leased_until <= now or is_dead(holder) else holder


@contextmanager
def beating(beat: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function in time for a lease while the block runs, for ``seconds`` at most.

    A paused process does not call it, and one that hangs stops to. If the lease is lost, the run
    finds out at its next write.
    """
    done, until = threading.Event(), time.monotonic() + seconds

    def repeat() -> None:
        while not done.wait(LEASE_SECONDS / 4) and time.monotonic() < until:
            try:
                beat()
            except (LeaseLostError, RunTooLongError):  # noqa: PERF203 - it waits anyway
                return
            except LedgerError:
                continue  # a busy database; there is time for another try

    heart = threading.Thread(target=repeat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()


def _take_within(
    database: Database, connection_id: int, name: str, patience: float, run_id: str
) -> Fence:
    deadline = time.monotonic() + patience
    while True:
        try:
            return _take(database, connection_id, name, run_id)
        except LeaseError:  # noqa: PERF203 - it waits anyway
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(RETRY_SECONDS, left))


def _take(database: Database, connection_id: int, name: str, run_id: str) -> Fence:
    c = connections.c
    now = database.now_expression().label("now")
    current = sa.select(connections, now).where(c.id == connection_id)
    with database.engine.begin() as db:
        row = db.execute(current).one()
        if holder := living_holder(row.holder, row.leased_until, row.now):
            raise LeaseError(name, holder)
        fence = Fence(database, connection_id, name, row.fence + 1, row.holder)
        values = {
            "holder": holder_name(run_id),
            "fence": fence.number,
            "leased_until": database.now_expression() + LEASE_SECONDS,
        }
        # Since it was read, another run may have taken it, or its slow holder may have renewed it.
        is_free = sa.and_(c.id == connection_id, c.fence == row.fence)
        if not is_dead(row.holder):
            is_free &= c.leased_until <= database.now_expression()
        if db.execute(connections.update().where(is_free).values(values)).rowcount != 1:
            raise LeaseError(name, db.execute(current).one().holder or "another run")
    return fence


# -- who holds a lease --------------------------------------------------------------------


def holder_name(run_id: str = "") -> str:
    """Return a name for this process and this use of a lease; it ends with the run's id, if any."""
    return f"{_machine()}/{os.getpid()}/{run_id or uuid.uuid4().hex[:8]}"


def run_of(holder: str) -> str:
    """Return the id of the Dagster run in a holder's name; for other holders, an id of no run."""
    return holder.rpartition("/")[2]


def is_dead(holder: str) -> bool:
    """Return whether a lease's holder has certainly ended; doubt counts as alive."""
    machine, _, rest = holder.partition("/")
    pid = rest.partition("/")[0]
    if machine != _machine() or not pid.isdigit() or sys.platform == "win32":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Return a name for this host, its boot and PID namespace: process ids are unique in it.

    Hosts that share a ledger may have the same name, and namespaces the same number.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    since = f"-{boot.read_text()[:8]}" if boot.is_file() else ""
    namespace = Path("/proc/self/ns/pid")
    inside = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}{since}{inside}"
