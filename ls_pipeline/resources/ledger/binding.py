"""What ties a ledger to its Label Studio projects and targets: its id, and the generations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ls_pipeline.resources.ledger.projects import marked, unmarked
from ls_pipeline.resources.ledger.records import Binding
from ls_pipeline.resources.ledger.section import Records, Writer
from ls_pipeline.resources.ledger.tables import connections, identity, projects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.resources.ledger.database import Database


def ledger_id(database: Database) -> str:
    """Return the ledger's id. Its backups have it, too."""
    with database.engine.connect() as db:
        return str(db.execute(sa.select(identity.c.ledger)).scalar_one())


class BindingRecords(Records):
    """The connection's generation, and the marks that hold it."""

    def state(self) -> Binding:
        """Return how the connection is bound."""
        columns = [connections.c[name] for name in Binding.__dataclass_fields__]
        query = sa.select(*columns).where(connections.c.id == self.id)
        with self.database.engine.connect() as db:
            return Binding(*db.execute(query).one())


class BindingWriter(BindingRecords, Writer):
    """Records which marks were written, and what is verified."""

    def confirm_app(self, generation: int, project_id: int = 0) -> None:
        """Record that Label Studio's mark holds this generation; and that a project has it."""
        with self.fence.transaction() as db:
            db.execute(self.fence.update().values(app_generation=generation))
            if project_id:
                db.execute(marked(self.id, project_id))

    def confirm_target(self, root: str, generation: int) -> None:
        """Record that the mark below the target's root holds this generation."""
        self._set(target_root=root, target_generation=generation)

    def restart(self, generation: int) -> None:
        """Continue from a mark's generation, and trust nothing that is known of tasks and files."""
        self._set(**_restarted(generation))

    def bind(self, found: Mapping[int, Project], generation: int) -> None:
        """Bind the connection to these projects instead of its own, by number, and restart."""
        with self.fence.transaction() as db:
            db.execute(projects.delete().where(projects.c.connection == self.id))
            self.upsert(db, projects, unmarked(found))
            restarted = {**_restarted(generation), "app_generation": 0}
            db.execute(self.fence.update().values(restarted))

    def distrust_files(self) -> None:
        """Trust nothing that is known of the target's files."""
        self._set(files_verified=False)

    def verify_tasks(self) -> None:
        """Record that the ledger knows all tasks of the connection."""
        self._set(tasks_verified=True)

    def verify_files(self) -> None:
        """Record that the ledger knows what the target's files hold."""
        self._set(files_verified=True)

    def show_mass_change(self, what: str, count: int) -> None:
        """Record how many ``tasks`` or ``files`` a stopped run would have taken away."""
        self._set(**{f"{what}_shown": count})

    def _set(self, **values: Any) -> None:
        with self.fence.transaction() as db:
            db.execute(self.fence.update().values(values))


def _restarted(generation: int) -> dict[str, Any]:
    return {
        "generation": generation,
        "target_generation": 0,
        "target_root": "",
        "tasks_verified": False,
        "files_verified": False,
    }
