"""A run of an asset over one connection: how it holds the connection, and how it ends."""

from __future__ import annotations

import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ls_pipeline.assets.pipeline import STANDALONE
from ls_pipeline.domain.errors import (
    HomeError,
    InvalidVariableError,
    LabelStudioError,
    LeaseError,
    LedgerError,
    PipelineError,
)
from ls_pipeline.domain.text import visible
from ls_pipeline.resources.ledger.lease import LONGEST_HOLD, run_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.assets.pipeline import Pipeline
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.model import Connection

PATIENCE = 120.0
"""Seconds to wait for another run on the same connection."""


class MassChangeConsent(dg.Config):
    """What a person may allow a run in the launchpad."""

    allow_mass_change: bool = Field(
        default=False,
        description="True: this run may delete, empty or bury most of what the connection has. "
        "Without it, such a run stops before the first.",
    )


@contextmanager
def connection_run(
    context: dg.AssetExecutionContext, ledger: Ledger, work: str, pipeline: Pipeline = STANDALONE
) -> Iterator[HeldConnection]:
    """Hold the partition's connection for a run of some ``work``, and record how the run ends.

    Raises ``dagster.Failure`` with one sentence for every error of ls_pipeline; the ledger then
    knows when to try again.
    """
    run_id = context.op_execution_context.run_id
    _leave_retries_to_the_ledger(context.instance, run_id)
    try:
        connection_ledger = ledger.connection_ledger(context.partition_key)
        seconds = _seconds_at_most(connection_ledger.settings.in_force().connection, work)
        with (
            ledger.heartbeats.of(run_id, PATIENCE + seconds),
            connection_ledger.acquire(PATIENCE, run_id, seconds) as held,
        ):
            try:
                if work_of_dead := _report_overtaken(context.instance, held, run_id, pipeline):
                    _record_failure(held, work_of_dead, "The run before was cut off.")
                yield held
            except PipelineError as error:
                _record_failure(held, work, str(error), needs_decision=error.needs_decision)
                raise
            except Exception as error:
                _record_failure(held, work, f"{type(error).__name__}: {error}")
                raise
            held.health.record_success(work)
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from presentable(error)
    except Exception as error:
        if (shown := presentable(error)) is error:
            raise
        raise shown from None


def presentable(error: Exception) -> Exception:
    """Return an error, or its traceback as text if that has control characters.

    Dagster logs the texts of an error and of its causes as they are.
    """
    lines = "".join(traceback.format_exception(error)).split("\n")
    shown = list(map(visible, lines))
    return error if shown == lines else RuntimeError("\n".join(shown))


def log_warnings(context: dg.AssetExecutionContext, notes: Iterable[str]) -> None:
    """Write notes to the run's log, with control characters escaped."""
    for note in notes:
        context.log.warning(visible(note))


def _leave_retries_to_the_ledger(instance: dg.DagsterInstance, run_id: str) -> None:
    """Have Dagster not retry a run: the sensors request the next one when the ledger says so."""
    if instance.run_retries_enabled:
        instance.add_run_tags(run_id, {"dagster/max_retries": "0"})


def _seconds_at_most(connection: Connection, work: str) -> float:
    side = connection.source if work == "tasks" else connection.target
    return side.params.run_seconds if side else LONGEST_HOLD


def _report_overtaken(
    instance: dg.DagsterInstance, held: HeldConnection, run_id: str, pipeline: Pipeline
) -> str:
    """Report the overtaken run to Dagster as failed; return its work, or nothing if unknown.

    Dagster might not find out: if a host is gone, its launcher knows only that the run started,
    and counts it among the running ones from then on.
    """
    run = instance.get_run_by_id(run_of(held.fence.overtaken))
    if run and not run.is_finished and run.run_id != run_id:
        message = (
            f"It sent no sign of life for too long: run {run_id} has taken over connection "
            f"{held.name!r}, and continues where it stopped."
        )
        instance.report_run_failed(run, message)
        works = pipeline.works_of(run)
        return next(iter(works)) if len(works) == 1 else ""
    return ""


def _record_failure(
    held: HeldConnection, work: str, failure: str, *, needs_decision: bool = False
) -> None:
    # It may be the ledger that failed, or a newer run holds the connection.
    with suppress(LedgerError, LeaseError):
        held.health.record_failure(work, failure, needs_decision=needs_decision)


def register_webhooks(run: RunContext, project_ids: Iterable[int]) -> list[str]:
    """Have Label Studio report new labels, if it can; return what prevents it.

    Without webhooks labels are found by polls, so this fails no run.
    """
    if run.connection.target is None:
        return []
    try:
        if not (url := run.place.webhook_url):
            return []
        address = f"{url}/connections/{run.name}"
        for project_id in project_ids:
            run.app.register_webhook(project_id, address, run.place.webhook_secret)
    except (LabelStudioError, InvalidVariableError, HomeError) as error:
        return [str(error)]
    return []


def nothing_to_do(connection: Connection, side: str) -> dg.MaterializeResult[None]:
    """Return the result of a run that had nothing to do, with the reason."""
    reason = f"it has no {side}" if connection.enabled else "it is disabled"
    return dg.MaterializeResult(metadata={"note": f"Nothing to do: {reason}."})
