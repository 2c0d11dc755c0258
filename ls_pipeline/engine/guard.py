"""The guard against mass changes: a run that would take away most of what there is stops first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import MassChangeError
from ls_pipeline.domain.mass_change import is_mass_change

if TYPE_CHECKING:
    from ls_pipeline.engine.context import RunContext

CHANGES = {
    "tasks": "delete tasks, because their objects or rows are gone from the bucket",
    "files": "empty completions or replace them by tombstones, because their annotations or tasks "
    "are gone from Label Studio",
}


def check_mass_change(run: RunContext, what: str, count: int, total: int) -> None:
    """Stop a run before it takes away ``count`` of ``total`` ``tasks`` or ``files``.

    Raises ``MassChangeError`` if that is a mass change, and a person has not consented to one of
    this size.
    """
    state = run.held.binding.state()
    shown = state.tasks_shown if what == "tasks" else state.files_shown
    if is_mass_change(count, total):
        if not run.allow_mass_change or (shown and count > shown):
            run.held.binding.show_mass_change(what, count)
            raise MassChangeError(run.name, CHANGES[what], count, total)
    elif not shown:
        return
    run.held.binding.show_mass_change(what, 0)
