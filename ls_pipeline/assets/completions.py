"""The ``completions`` asset: finished labels, in the target bucket, one JSON file a task."""

import dagster as dg

from ls_pipeline.assets.checks import ANNOTATIONS_COUNTED, annotations_counted
from ls_pipeline.assets.metadata import (
    folder_link,
    mirror_metadata,
    notes_metadata,
    project_links,
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
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.export import export_completions
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror

DESCRIPTION = """
Every task of the connection's projects that has a finished annotation (skipped ones included),
as `<prefix>/<task id>.json` in the target bucket, in Label Studio's own export format. Only what
changed is written. A completion counts as exported once the bucket has confirmed its checksum.
"""


def completions(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Return the asset."""

    @dg.asset(
        key=pipeline.key("completions"),
        partitions_def=pipeline.partitions,
        deps=[pipeline.key("target_settings"), pipeline.key("labels")],
        group_name=pipeline.group,
        kinds={"json"},
        description=DESCRIPTION,
        check_specs=pipeline.checks([ANNOTATIONS_COUNTED]),
        required_resource_keys=pipeline.names("ledger", "s3", "gcs", "label_studio", "progress"),
        pool=pipeline.pool,
    )
    def completions(
        context: dg.AssetExecutionContext, config: MassChangeConsent
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return _materialize(context, config, pipeline)

    return completions


def _materialize(
    context: dg.AssetExecutionContext, config: MassChangeConsent, pipeline: Pipeline
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Write the completions that changed to the target."""
    systems = Systems(pipeline, context.resources)
    with connection_run(context, systems.ledger, "completions", pipeline) as held:
        revision = held.settings.in_force()
        connection, target = revision.connection, revision.connection.target
        if target is None or not connection.enabled:
            result = nothing_to_do(connection, "target")
            return result._replace(check_results=[annotations_counted(held.name, [])])
        run = systems.run(held, revision, target, allow_mass_change=config.allow_mass_change)
        mark_mirror_stale(run, target)
        # A sensor asks because it saw a change; a person or `sync` may ask at any time.
        has_changed = "dagster/sensor_name" in context.run.tags
        exported = export_completions(run, has_changed=has_changed)
        copied = update_mirror(run, target)
        check = annotations_counted(held.name, exported.uncounted)
        notes = [*exported.notes, *register_webhooks(run, run.projects.ids)]
        log_warnings(context, [*notes, *([] if check.passed else [str(check.description)])])
        return dg.MaterializeResult(
            metadata={
                **project_links(run.projects.all()),
                "folder": folder_link(target, folder(target.params.prefix)),
                "written": dg.MetadataValue.int(exported.written),
                "unchanged": dg.MetadataValue.int(exported.unchanged),
                "emptied": dg.MetadataValue.int(exported.emptied),
                "deleted": dg.MetadataValue.int(exported.deleted),
                "dagster/row_count": dg.MetadataValue.int(held.exports.count()[0]),
                **timings_metadata(run.timings),
                **notes_metadata(notes),
                **mirror_metadata(run, target, copied),
            },
            check_results=[check],
        )
