"""Which sidecars the objects were read with, and which objects have to be read again for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.sidecars import joined_version
from ls_pipeline.resources.ledger.objects import forget_fingerprints, reopen
from ls_pipeline.resources.ledger.section import PAGE, Records, Writer, columns
from ls_pipeline.resources.ledger.tables import connections, objects, range_boundaries, sidecars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.resources.ledger.records import ReadSidecar


class SidecarRecords(Records):
    """What the objects were read with."""

    def read_as(self) -> str:
        """Return how the connection's objects get their sidecars; empty if they have none."""
        query = sa.select(connections.c.sidecars).where(connections.c.id == self.id)
        with self.database.engine.connect() as db:
            return db.scalar(query) or ""

    def without_object(self, keys: Sequence[str]) -> list[str]:
        """Return those of some sidecars with which no object was read."""
        c, found = sidecars.c, set[str]()
        query = sa.select(c.sidecar).where(c.connection == self.id).distinct()
        with self.database.engine.connect() as db:
            for batch in batches(keys, PAGE):
                found.update(db.scalars(query.where(c.sidecar.in_(batch))))
        return [key for key in keys if key not in found]


class SidecarWriter(SidecarRecords, Writer):
    """Records what objects are read with."""

    def record(self, read: Iterable[ReadSidecar]) -> None:
        """Record it before the objects are finished."""
        with self.fence.transaction() as db:
            self.upsert(db, sidecars, ({**columns(item), "is_outdated": False} for item in read))

    def read_all_again(self, read_as: str) -> None:
        """Record that all objects get their sidecars in another way, and are read again."""
        own = range_boundaries.c.connection == self.id
        with self.fence.transaction() as db:
            db.execute(sidecars.delete().where(sidecars.c.connection == self.id))
            db.execute(range_boundaries.update().where(own).values(fingerprint=""))
            db.execute(objects.update().where(objects.c.connection == self.id).values(version=""))
            db.execute(self.fence.update().values(sidecars=read_as))

    def read_changed_again(self, read_as: str, version_of: Callable[[str], str]) -> None:
        """Record which objects have another sidecar than they were read with.

        ``version_of`` returns the version of an object's sidecar as it is now.
        """
        c = sidecars.c
        query = sa.select(c.key, c.version).where(c.connection == self.id)
        query, last = query.order_by(c.key).limit(PAGE), ""
        while True:
            with self.database.engine.connect() as db:
                page = db.execute(query.where(c.key > last)).all()
            if not page:
                break
            changed = [key for key, version in page if version != version_of(key)]
            with self.fence.transaction() as db:
                forget_fingerprints(db, self.id, changed)
                reopen(db, self.id, changed)
            last = page[-1].key
        with self.fence.transaction() as db:
            db.execute(self.fence.update().values(sidecars=read_as))


def has_sidecars(db: sa.Connection, connection_id: int) -> bool:
    """Return whether objects were read with sidecars, or looked for them."""
    query = sa.select(sidecars.c.key).where(sidecars.c.connection == connection_id)
    return db.scalar(query.limit(1)) is not None


def versions_with_sidecars(
    db: sa.Connection, connection_id: int, versions: Mapping[str, str]
) -> dict[str, str]:
    """Return the versions of objects, each with that of the sidecar that it was read with."""
    c, joined = sidecars.c, dict(versions)
    query = sa.select(c.key, c.version).where(c.connection == connection_id)
    for batch in batches(list(versions), PAGE):
        for key, version in db.execute(query.where(c.key.in_(batch))):
            joined[key] = joined_version(versions[key], version)
    return joined


def reopen_outdated(
    db: sa.Connection, connection_id: int, finished: Sequence[KnownObject], gone: Sequence[str]
) -> set[str]:
    """Have objects read again if these sidecars are not those that they were read with.

    ``finished`` and ``gone`` are objects and sidecars. An object that is finished although its
    sidecar was found changed after it was read is read again, too. Returns the objects' keys.
    """
    found = dict.fromkeys(gone, "")
    for known in finished:
        found[known.key] = "" if known.state is State.REMOVED else known.version
    c, outdated, again = sidecars.c, list[str](), set[str]()
    own, keys = c.connection == connection_id, list(found)
    for batch in batches(keys, PAGE):
        read = sa.select(c.key, c.sidecar, c.version).where(own, c.sidecar.in_(batch))
        outdated += [key for key, sidecar, version in db.execute(read) if version != found[sidecar]]
        late = sa.select(c.key).where(own, c.key.in_(batch), c.is_outdated)
        again.update(db.scalars(late))
    for batch in batches(outdated, PAGE):
        db.execute(sidecars.update().where(own, c.key.in_(batch)).values(is_outdated=True))
    again.update(outdated)
    forget_fingerprints(db, connection_id, again)
    reopen(db, connection_id, again)
    return again
