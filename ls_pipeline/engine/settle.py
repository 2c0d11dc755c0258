"""Settles what the runs of a connection began, before the connection is removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ls_pipeline.domain.notes import Notes
from ls_pipeline.engine.export import finish_files
from ls_pipeline.engine.reconcile import Reconciler, reconcile_tasks
from ls_pipeline.resources.ledger.records import OF_TASKS, Kind

if TYPE_CHECKING:
    from ls_pipeline.engine.context import RunContext


def settle_all(run: RunContext) -> list[str]:
    """Settle what runs began and did not record; return what a person should know, in sentences.

    Intents stay open as long as a request may still arrive, but nothing is half done. If nothing
    is open, nobody is asked. Raises ``ExternalSystemError`` if Label Studio or a bucket fails,
    ``IdentityError`` before it changes anything, and ``MassChangeError``.
    """
    of_tasks, files = run.held.intents.open(*OF_TASKS), run.held.intents.open(Kind.WRITE)
    if not (of_tasks or files) or not run.held.projects.ids():
        return []
    run.projects.find()
    notes = Notes()
    if of_tasks:
        notes += _settle_tasks(run)
    if files:
        notes += finish_files(_at_target(run))
    return notes


def _settle_tasks(run: RunContext) -> list[str]:
    if run.connection.source:
        return reconcile_tasks(run).notes
    # Without a source it is unknown which rows other tasks came from, so only intents count.
    reconciler = Reconciler(run)
    reconciler.settle(run.held.intents.open(*OF_TASKS))
    return reconciler.notes


def _at_target(run: RunContext) -> RunContext:
    """Return the run with the target's bucket, if the connection has a target."""
    target = run.connection.target
    return replace(run, bucket=run.open_bucket(target)) if target and run.open_bucket else run
