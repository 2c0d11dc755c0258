"""The revisions of a connection's settings. `Ledger.save` adds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.records import Revision
from ls_pipeline.resources.ledger.section import Records
from ls_pipeline.resources.ledger.tables import last_revision, revisions
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence


class SettingsRecords(Records):
    """The settings in force, and those before."""

    def in_force(self) -> Revision:
        """Return the newest revision."""
        with self.database.engine.connect() as db:
            return _revision(db.execute(last_revision(self.id)).one())

    def at(self, number: int) -> Revision:
        """Return one revision. Raises ``LookupError`` if there is none of that number."""
        c = revisions.c
        query = sa.select(revisions).where(c.connection == self.id, c.number == number)
        with self.database.engine.connect() as db:
            row = db.execute(query).first()
        if row is None:
            raise LookupError(f"there is no revision {number}")
        return _revision(row)

    def history(self) -> Sequence[Revision]:
        """Return all revisions, the newest first."""
        own = sa.select(revisions).where(revisions.c.connection == self.id)
        with self.database.engine.connect() as db:
            rows = db.execute(own.order_by(revisions.c.number.desc())).all()
        return list(map(_revision, rows))


def _revision(row: sa.Row[Any]) -> Revision:
    return Revision(row.number, Connection(**row.document), row.saved_at, row.saved_by)
