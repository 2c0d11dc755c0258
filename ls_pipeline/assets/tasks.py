"""The ``tasks`` asset: a source's objects, as tasks in Label Studio."""

from typing import Any

import dagster as dg

from ls_pipeline.assets.checks import (
    TASK_CHECKS,
    accounts_balance,
    nothing_quarantined,
    passed_task_checks,
)
from ls_pipeline.assets.external import source_bucket
from ls_pipeline.assets.metadata import (
    folder_link,
    mirror_metadata,
    project_links,
    timings_metadata,
)
from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.assets.run import bucket_of, nothing_to_do, one_pass
from ls_pipeline.assets.settings import source_settings
from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import ExternalSystemError, InvalidVariableError
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.engine.load import Loading, load
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.connection import Account
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import Quarantined
from ls_pipeline.resources.progress import Progress
from ls_pipeline.resources.s3.bucket import S3Buckets

DESCRIPTION = """
Every object of the connection's source that its prefix and regex select, as one or more tasks
in the Label Studio project, each exactly once. An object that can't become a task goes to
quarantine with its reason. What a replaced or removed object means for its tasks, `on_change`
and `on_delete` say; a task that somebody has worked on is never overwritten or deleted.
"""


@dg.asset(
    partitions_def=CONNECTIONS,
    deps=[source_settings, source_bucket],
    group_name="labeling",
    kinds={"labelstudio"},
    description=DESCRIPTION,
    check_specs=TASK_CHECKS,
)
def tasks(
    context: dg.AssetExecutionContext,
    ledger: dg.ResourceParam[Ledger],
    s3: S3Buckets,
    gcs: GCSBuckets,
    label_studio: dg.ResourceParam[LabelingApp],
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Bring the connection's tasks up to date with its source."""
    with one_pass(context, ledger, "tasks") as work:
        source = work.connection.source
        if source is None or not work.connection.enabled:
            why = nothing_to_do(work.connection, "source")
            return why._replace(check_results=passed_task_checks(work.connection.name))
        bucket = bucket_of(source, s3, gcs)
        mark_mirror_stale(work.account, work.lease, source)
        try:
            done = load(work.account, work.lease, work.connection, bucket, label_studio, progress)
        except (ExternalSystemError, InvalidVariableError):
            # What can be read is copied all the same.
            update_mirror(work.account, work.lease, source, bucket, progress)
            raise
        copied = update_mirror(work.account, work.lease, source, bucket, progress)
        projects = work.projects(label_studio).all()
        done.notes += work.register_webhooks([one.id for one in projects], label_studio)
        for note in done.notes:
            context.log.warning(note)
        return dg.MaterializeResult(
            metadata={
                **project_links(projects),
                "folder": folder_link(source, source.params.filter.folder),
                **_metadata(done, work.account, sum(one.tasks for one in projects)),
                **mirror_metadata(work.connection.name, source, copied),
            },
            check_results=[
                accounts_balance(work.account, source.params.filter.folder, done),
                nothing_quarantined(work.account),
            ],
        )


def _metadata(done: Loading, account: Account, tasks: int) -> dict[str, dg.MetadataValue[Any]]:
    states = account.count_objects()
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "objects": dg.MetadataValue.int(states[State.LOADED]),
        "added": dg.MetadataValue.int(done.changes[Change.ADDED]),
        "replaced": dg.MetadataValue.int(done.changes[Change.REPLACED]),
        "removed": dg.MetadataValue.int(done.changes[Change.REMOVED]),
        "unchanged": dg.MetadataValue.int(done.changes[Change.UNCHANGED]),
        "filtered": dg.MetadataValue.int(done.changes[Change.FILTERED]),
        "quarantined": dg.MetadataValue.int(account.count_quarantined()),
        "tasks_created": dg.MetadataValue.int(done.tasks_created),
        "tasks_updated": dg.MetadataValue.int(done.tasks_updated),
        "tasks_deleted": dg.MetadataValue.int(done.tasks_deleted),
        "tasks_kept": dg.MetadataValue.int(done.tasks_kept),
        "dagster/row_count": dg.MetadataValue.int(tasks),
        **timings_metadata(done.took),
    }
    if done.first_new:
        metadata["first_new_objects"] = _new_table(done.first_new)
    if bad := account.quarantined(limit=20):
        metadata["quarantine"] = _quarantine_table(bad)
    if done.notes:
        metadata["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in done.notes[:20]))
    return metadata


def _new_table(objects: list[StoredObject]) -> dg.MetadataValue[Any]:
    records = [
        dg.TableRecord({"key": one.key, "version": one.version, "bytes": one.size})
        for one in objects
    ]
    return dg.MetadataValue.table(records)


def _quarantine_table(bad: list[Quarantined]) -> dg.MetadataValue[Any]:
    records = [
        dg.TableRecord(
            {"key": one.key, "row": "" if one.row is None else str(one.row), "reason": one.reason}
        )
        for one in bad
    ]
    return dg.MetadataValue.table(records)
