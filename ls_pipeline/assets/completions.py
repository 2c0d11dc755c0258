"""The ``completions`` asset: finished labels, in the target bucket, one JSON file a task."""

from functools import partial

import dagster as dg

from ls_pipeline.assets.checks import ANNOTATIONS_COUNTED, annotations_counted
from ls_pipeline.assets.external import labels
from ls_pipeline.assets.metadata import (
    folder_link,
    mirror_metadata,
    notes_metadata,
    project_links,
    timings_metadata,
)
from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.assets.run import (
    MassChangeConsent,
    bucket_of,
    connection_run,
    log_warnings,
    nothing_to_do,
    register_webhooks,
)
from ls_pipeline.assets.settings import target_settings
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.export import export_completions
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import Progress
from ls_pipeline.resources.s3.bucket import S3Buckets

DESCRIPTION = """
Every task of the connection's projects that has a finished annotation (skipped ones included),
as `<prefix>/<task id>.json` in the target bucket, in Label Studio's own export format. Only what
changed is written. A completion counts as exported once the bucket has confirmed its checksum.
"""


@dg.asset(
    partitions_def=CONNECTIONS,
    deps=[target_settings, labels],
    group_name="labeling",
    kinds={"json"},
    description=DESCRIPTION,
    check_specs=[ANNOTATIONS_COUNTED],
)
def completions(  # noqa: PLR0913, PLR0917 - one for each resource
    context: dg.AssetExecutionContext,
    config: MassChangeConsent,
    ledger: dg.ResourceParam[Ledger],
    s3: dg.ResourceParam[S3Buckets],
    gcs: dg.ResourceParam[GCSBuckets],
    label_studio: dg.ResourceParam[LabelingApp],
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Write the completions that changed to the target."""
    with connection_run(context, ledger, "completions") as held:
        revision = held.settings.in_force()
        connection, target = revision.connection, revision.connection.target
        if target is None or not connection.enabled:
            result = nothing_to_do(connection, "target")
            return result._replace(check_results=[annotations_counted(held.name, [])])
        open_bucket = partial(bucket_of, s3=s3, gcs=gcs)
        run = RunContext(
            held,
            revision,
            open_bucket(target),
            label_studio,
            progress,
            open_bucket=open_bucket,
            allow_mass_change=config.allow_mass_change,
        )
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
                **mirror_metadata(held.name, target, copied),
            },
            check_results=[check],
        )
