"""The Label Studio projects of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ls_pipeline.resources.ledger.section import Records, Writer
from ls_pipeline.resources.ledger.tables import projects

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProjectRecords(Records):
    """Projects by number: the first is 1, an overflow project has the number of its title."""

    def ids(self) -> dict[int, int]:
        """Return the projects' ids by number, in that order; new tasks go to the last."""
        c = projects.c
        query = sa.select(c.number, c.project_id).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            return {row.number: row.project_id for row in db.execute(query.order_by(c.number))}

    def seen(self) -> dict[int, int]:
        """Return each project's low-water mark: all of our tasks up to this id are known."""
        c = projects.c
        query = sa.select(c.project_id, c.seen).where(c.connection == self.id)
        with self.database.engine.connect() as db:
            return {row.project_id: row.seen for row in db.execute(query.order_by(c.number))}


class ProjectWriter(ProjectRecords, Writer):
    """Records projects."""

    def add(self, ids: Mapping[int, int]) -> None:
        """Record project ids by number, all at once."""
        with self.fence.transaction() as db:
            rows = ({"number": number, "project_id": id_} for number, id_ in ids.items())
            self.upsert(db, projects, rows)

    def set_seen(self, project_id: int, task_id: int) -> None:
        """Record that all of our tasks up to this id are known."""
        c = projects.c
        project = sa.and_(c.connection == self.id, c.project_id == project_id)
        with self.fence.transaction() as db:
            db.execute(projects.update().where(project).values(seen=task_id))
