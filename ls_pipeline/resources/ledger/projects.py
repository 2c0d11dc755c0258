"""The Label Studio projects of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.records import BoundProject
from ls_pipeline.resources.ledger.section import Records, Writer
from ls_pipeline.resources.ledger.tables import projects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.labeling_app import Project


_BOUND = (
    sa.select(projects.c.number, projects.c.project_id, projects.c.created_at, projects.c.marked)
    .where(projects.c.connection == sa.bindparam("connection"))
    .order_by(projects.c.number)
)
"""Built once: a run asks it most often, and building it takes longer than the answer."""


class ProjectRecords(Records):
    """Projects by number: the first is 1, an overflow project has the number of its title."""

    def ids(self) -> dict[int, int]:
        """Return the projects' ids by number, in that order; new tasks go to the last."""
        return {number: project.id for number, project in self.bound().items()}

    def bound(self) -> dict[int, BoundProject]:
        """Return what the ledger knows of the projects, by number, in that order."""
        with self.database.engine.connect() as db:
            rows = db.execute(_BOUND, {"connection": self.id})
            return {number: BoundProject(*row) for number, *row in rows}


class ProjectWriter(ProjectRecords, Writer):
    """Records projects."""

    def add(self, found: Mapping[int, Project]) -> None:
        """Record projects by number, all at once."""
        with self.fence.transaction() as db:
            self.upsert(db, projects, unmarked(found))

    def set_marked(self, project_id: int) -> None:
        """Record that a project has our mark."""
        with self.fence.transaction() as db:
            db.execute(marked(self.id, project_id))


def marked(connection_id: int, project_id: int) -> sa.Update:
    """Return the update that records that a project has our mark."""
    c = projects.c
    own = projects.update().where(c.connection == connection_id, c.project_id == project_id)
    return own.values(marked=True)


def unmarked(found: Mapping[int, Project]) -> list[dict[str, Any]]:
    """Return projects as rows of the table."""
    return [
        {
            "number": number,
            "project_id": project.id,
            "created_at": project.created_at,
            "marked": False,
        }
        for number, project in found.items()
    ]
