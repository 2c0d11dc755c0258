"""The ``tasks`` asset: a source's objects, as tasks in Label Studio."""

from typing import Any

import dagster as dg

from ls_pipeline.assets.checks import (
    TASK_CHECKS,
    accounts_balance,
    nothing_quarantined,
    passed_task_checks,
)
from ls_pipeline.assets.metadata import (
    folder_link,
    mirror_metadata,
    notes_metadata,
    project_links,
    table,
    timings_metadata,
)
from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.assets.run import (
    MassChangeConsent,
    connection_run,
    log_warnings,
    nothing_to_do,
    register_webhooks,
)
from ls_pipeline.assets.systems import Systems
from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import (
    ExternalSystemError,
    InvalidVariableError,
    SettingsMismatchError,
)
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.engine.load_result import LoadResult
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror

DESCRIPTION = """
Every object that the source's `prefix`, `regex` and `exclude` select, as one or more tasks in the
Label Studio project, each exactly once. An object that can't become a task goes to quarantine with
its reason. `on_change` and `on_delete` decide what happens to the tasks of a replaced or removed
object. A task that has annotations or drafts is never overwritten or deleted.
"""


def tasks(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Return the asset."""

    @dg.asset(
        key=pipeline.key("tasks"),
        partitions_def=pipeline.partitions,
        deps=[pipeline.key("source_settings"), pipeline.key("source_bucket")],
        group_name=pipeline.group,
        kinds={"labelstudio"},
        description=DESCRIPTION,
        check_specs=pipeline.checks(TASK_CHECKS),
        required_resource_keys=pipeline.names("ledger", "s3", "gcs", "label_studio", "progress"),
        pool=pipeline.pool,
    )
    def tasks(context: dg.AssetExecutionContext, config: MassChangeConsent) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return _materialize(context, config, pipeline)

    return tasks


def _materialize(
    context: dg.AssetExecutionContext, config: MassChangeConsent, pipeline: Pipeline
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Bring the connection's tasks up to date with its source."""
    systems = Systems(pipeline, context.resources)
    with connection_run(context, systems.ledger, "tasks", pipeline) as held:
        revision = held.settings.in_force()
        connection, source = revision.connection, revision.connection.source
        if source is None or not connection.enabled:
            result = nothing_to_do(connection, "source")
            return result._replace(check_results=passed_task_checks(held.name))
        run = systems.run(held, revision, source, allow_mass_change=config.allow_mass_change)
        mark_mirror_stale(run, source)
        try:
            loaded = load_tasks(run)
        except (ExternalSystemError, InvalidVariableError, SettingsMismatchError):
            # What can be read is copied all the same.
            update_mirror(run, source)
            raise
        copied = update_mirror(run, source)
        projects = run.projects.all()
        loaded.notes += register_webhooks(run, [project.id for project in projects])
        log_warnings(context, loaded.notes)
        return dg.MaterializeResult(
            metadata={
                **project_links(projects),
                "folder": folder_link(source, source.params.filter.folder),
                **_metadata(run, loaded, sum(project.tasks for project in projects)),
                **mirror_metadata(run, source, copied),
            },
            check_results=[
                accounts_balance(held, source.params.filter.folder, loaded),
                nothing_quarantined(held),
            ],
        )


def _metadata(run: RunContext, loaded: LoadResult, tasks: int) -> dict[str, dg.MetadataValue[Any]]:
    objects = run.held.objects
    states, count = objects.count(), objects.count_quarantined()
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "objects": dg.MetadataValue.int(states[State.LOADED]),
        **{change.value: dg.MetadataValue.int(loaded.changes[change]) for change in Change},
        "quarantined": dg.MetadataValue.int(count),
        "tasks_created": dg.MetadataValue.int(loaded.tasks_created),
        "tasks_updated": dg.MetadataValue.int(loaded.tasks_updated),
        "tasks_deleted": dg.MetadataValue.int(loaded.tasks_deleted),
        "tasks_kept": dg.MetadataValue.int(loaded.tasks_kept),
        "dagster/row_count": dg.MetadataValue.int(tasks),
        **timings_metadata(run.timings),
    }
    if loaded.first_new:
        metadata["first_new_objects"] = table(
            [
                {"key": stored.key, "version": stored.version, "bytes": stored.size}
                for stored in loaded.first_new
            ]
        )
    if quarantined := objects.quarantined(limit=20):
        rows = [
            {
                "key": item.key,
                "row": "" if item.row is None else str(item.row),
                "reason": item.reason,
            }
            for item in quarantined
        ]
        if further := count - sum(max(item.more, 1) for item in quarantined):
            rows.append({"key": "", "row": "", "reason": f"… and {further:,} more."})
        metadata["quarantine"] = table(rows)
    return {**metadata, **notes_metadata(loaded.notes)}
