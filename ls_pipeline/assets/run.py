"""One pass of an asset over one connection: its parts, its lease, and how it ends."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.domain.errors import (
    LabelStudioError,
    LeaseError,
    LedgerError,
    PipelineError,
    UnknownConnectionError,
)
from ls_pipeline.engine.projects import Projects, projects_of
from ls_pipeline.resources.environment import webhook_secret, webhook_url
from ls_pipeline.resources.ledger.lease_holder import run_of
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.resources.s3.bucket import S3Buckets
    from ls_pipeline.settings.model import Connection, Source, Target

WORK_OF_JOBS = {"load_tasks": "tasks", "export_completions": "completions"}
"""What a job works on whose runs name no assets."""

PATIENCE = 120.0
"""Seconds to wait for another run on the same connection."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A connection held for one pass, with the settings in force at its begin."""

    account: Account
    lease: Lease
    revision: Revision

    @property
    def connection(self) -> Connection:
        return self.revision.connection

    def projects(self, app: LabelingApp) -> Projects:
        return projects_of(self.account, self.lease, self.connection, app)

    def register_webhooks(self, project_ids: Iterable[int], app: LabelingApp) -> list[str]:
        """Have Label Studio tell of new labels, where it can; say what stands in the way.

        Without that they are found by polls: it fails no pass.
        """
        if not (url := webhook_url()) or self.connection.target is None:
            return []
        address = f"{url}/connections/{self.connection.name}"
        try:
            for number in project_ids:
                app.register_webhook(number, address, webhook_secret())
        except LabelStudioError as error:
            return [str(error)]
        return []


@contextmanager
def one_pass(context: dg.AssetExecutionContext, ledger: Ledger, work: str) -> Iterator[Pass]:
    """Hold the partition's connection for a pass of some ``work``, and record how it went.

    Raises ``dagster.Failure`` with one sentence for what ls_pipeline reports; the ledger
    then knows when to try again.
    """
    run_id = context.op_execution_context.run_id
    try:
        account = ledger.account(context.partition_key)
    except (UnknownConnectionError, LedgerError) as error:
        # A partition that outlived its connection, or nowhere to look.
        raise dg.Failure(str(error), allow_retries=False) from error
    try:
        with account.lease(PATIENCE, run_id) as lease:
            if died := _tell_of_overtaken(context.instance, lease, run_id):
                _remember(account, died, "The run before was cut off.")
            yield Pass(account, lease, account.revision())
    except LeaseError as error:
        # Another run does the work: nothing is wrong with the connection.
        raise dg.Failure(str(error), allow_retries=False) from error
    except PipelineError as error:
        _remember(account, work, str(error))
        raise dg.Failure(str(error), allow_retries=False) from error
    except Exception as error:
        _remember(account, work, f"{type(error).__name__}: {error}")
        raise
    account.recovered(work)


def _tell_of_overtaken(instance: dg.DagsterInstance, lease: Lease, run_id: str) -> str:
    """Let Dagster know that the run failed from which the connection was taken over.

    Gives which work it was at, empty where that can't be told.

    It might not find out: of a host that is gone a launcher knows only that the run was started,
    and Dagster would count it among those at work for ever.
    """
    run = instance.get_run_by_id(run_of(lease.overtaken))
    if run and not run.is_finished and run.run_id != run_id:
        why = (
            f"Nothing was heard of it for too long: run {run_id} has taken over connection "
            f"{lease.account.name!r}, and goes on where it stopped."
        )
        instance.report_run_failed(run, why)
        assets = {key.path[-1] for key in run.asset_selection or ()}
        at = WORK_OF_JOBS.get(run.job_name) or next(iter(assets), "")
        return at if at in WORKS and len(assets) <= 1 else ""
    return ""


def _remember(account: Account, work: str, failure: str) -> None:
    with suppress(LedgerError):  # it may be the ledger that failed
        account.failed(work, failure)


def bucket_of(part: Source | Target, s3: S3Buckets, gcs: GCSBuckets) -> Bucket:
    """Open the bucket of a source or target, with its params."""
    return (s3 if part.cloud == "s3" else gcs).bucket_of(part)


def nothing_to_do(connection: Connection, side: str) -> dg.MaterializeResult[None]:
    """Say why a pass did nothing."""
    why = f"it has no {side}" if connection.enabled else "it is disabled"
    return dg.MaterializeResult(metadata={"note": f"Nothing to do: {why}."})
