"""The external assets: what the pipeline reads from and writes to."""

import dagster as dg

from ls_pipeline.assets.pipeline import Pipeline


def external_assets(pipeline: Pipeline) -> list[dg.AssetSpec]:
    """Return the specs of the source bucket, of the labels, and of the target bucket."""
    return [
        dg.AssetSpec(
            pipeline.key("source_bucket"),
            partitions_def=pipeline.partitions,
            group_name=pipeline.group,
            kinds={"s3", "gcs"},
            description="The bucket that a connection's tasks come from. The sensors "
            f"`{pipeline.name('s3_objects')}` and `{pipeline.name('gcs_objects')}` compare it with "
            "the ledger.",
        ),
        dg.AssetSpec(
            pipeline.key("labels"),
            deps=[pipeline.key("tasks")],
            partitions_def=pipeline.partitions,
            group_name=pipeline.group,
            kinds={"labelstudio"},
            description="The annotations of the tasks, in Label Studio. The sensor "
            f"`{pipeline.name('completions')}` compares them with the ledger.",
        ),
        dg.AssetSpec(
            pipeline.key("target_bucket"),
            deps=[pipeline.key("completions"), pipeline.key("training_data")],
            partitions_def=pipeline.partitions,
            group_name=pipeline.group,
            kinds={"s3", "gcs"},
            description="The bucket that completions and training data are written to. Training "
            "jobs read it with `ls_pipeline.open_snapshot`.",
        ),
    ]
