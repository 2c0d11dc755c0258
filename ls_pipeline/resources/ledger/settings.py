"""The revisions of a connection's settings. `Ledger.save` adds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import ValidationError

from ls_pipeline.domain.errors import StoredSettingsError
from ls_pipeline.resources.ledger.records import Revision
from ls_pipeline.resources.ledger.section import Records
from ls_pipeline.resources.ledger.tables import last_revision, revisions
from ls_pipeline.settings.model import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SettingsRecords(Records):
    """The settings in force, and those before."""

    name: str

    def in_force(self) -> Revision:
        """Return the newest revision."""
        with self.database.engine.connect() as db:
            return self._revision(db.execute(last_revision(self.id)).one())

    def at(self, number: int) -> Revision:
        """Return one revision that can be read.

        Raises ``StoredSettingsError``, and ``LookupError`` for a number that it lacks.
        """
        c = revisions.c
        query = sa.select(revisions).where(c.connection == self.id, c.number == number)
        with self.database.engine.connect() as db:
            row = db.execute(query).first()
        if row is None:
            raise LookupError(f"there is no revision {number}")
        revision = self._revision(row)
        if isinstance(revision.settings, StoredSettingsError):
            raise revision.settings
        return revision

    def history(self) -> Sequence[Revision]:
        """Return all revisions, the newest first."""
        own = sa.select(revisions).where(revisions.c.connection == self.id)
        with self.database.engine.connect() as db:
            rows = db.execute(own.order_by(revisions.c.number.desc())).all()
        return list(map(self._revision, rows))

    def _revision(self, row: sa.Row[Any]) -> Revision:
        settings = parse_settings(self.name, row.number, row.document)
        return Revision(row.number, settings, row.saved_at, row.saved_by)


def parse_settings(name: str, number: int, document: object) -> Connection | StoredSettingsError:
    """Return stored settings, or why this version refuses them: an earlier one may have not."""
    try:
        return Connection.model_validate(document)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        enabled = raw_setting(document, "enabled") is not False
        return StoredSettingsError(name, number, "; ".join(reasons) + ".", enabled=enabled)


def raw_setting(document: object, name: str) -> Any:
    """Return one of stored settings as it is, whether this version refuses them or not."""
    return document.get(name) if isinstance(document, dict) else None
