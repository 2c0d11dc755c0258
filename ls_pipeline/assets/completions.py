"""The ``completions`` asset: finished labels, in the target bucket, one JSON file a task."""

import dagster as dg

from ls_pipeline.assets.checks import ANNOTATIONS_COUNTED, annotations_counted
from ls_pipeline.assets.external import labels
from ls_pipeline.assets.metadata import (
    folder_link,
    mirror_metadata,
    project_links,
    timings_metadata,
)
from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.assets.run import bucket_of, nothing_to_do, one_pass
from ls_pipeline.assets.settings import target_settings
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.export import export
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import Progress
from ls_pipeline.resources.s3.bucket import S3Buckets

DESCRIPTION = """
Every task of the connection's projects that has a finished annotation (skipped ones included),
as `<prefix>/<task id>.json` in the target bucket, in Label Studio's own export form. Only what
changed is written, and a file counts once the bucket has confirmed its checksum.
"""


@dg.asset(
    partitions_def=CONNECTIONS,
    deps=[target_settings, labels],
    group_name="labeling",
    kinds={"json"},
    description=DESCRIPTION,
    check_specs=[ANNOTATIONS_COUNTED],
)
def completions(
    context: dg.AssetExecutionContext,
    ledger: dg.ResourceParam[Ledger],
    s3: S3Buckets,
    gcs: GCSBuckets,
    label_studio: dg.ResourceParam[LabelingApp],
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Write the completions that changed to the target."""
    with one_pass(context, ledger, "completions") as work:
        target = work.connection.target
        if target is None or not work.connection.enabled:
            why = nothing_to_do(work.connection, "target")
            return why._replace(check_results=[annotations_counted(work.connection.name, [])])
        bucket = bucket_of(target, s3, gcs)
        projects = work.projects(label_studio)
        mark_mirror_stale(work.account, work.lease, target)
        parts = (work.account, work.lease)
        # A sensor asks where it saw a difference; a person, and `sync`, at any time.
        differs = "dagster/sensor_name" in context.run.tags
        done = export(*parts, projects, target, bucket, progress, differs=differs)
        copied = update_mirror(*parts, target, bucket, progress)
        counted = annotations_counted(work.connection.name, done.uncounted)
        notes = work.register_webhooks(projects.ids, label_studio)
        for note in [*notes, *([] if counted.passed else [counted.description])]:
            context.log.warning(note)
        exported = len(work.account.exported_ids())
        return dg.MaterializeResult(
            metadata={
                **project_links(projects.all()),
                "folder": folder_link(target, folder(target.params.prefix)),
                "written": dg.MetadataValue.int(done.written),
                "unchanged": dg.MetadataValue.int(done.unchanged),
                "emptied": dg.MetadataValue.int(done.emptied),
                "deleted": dg.MetadataValue.int(done.deleted),
                "dagster/row_count": dg.MetadataValue.int(exported),
                **timings_metadata(done.took),
                **mirror_metadata(work.connection.name, target, copied),
            },
            check_results=[counted],
        )
