"""The external assets: what the pipeline reads from and writes to."""

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS

source_bucket = dg.AssetSpec(
    "source_bucket",
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"s3", "gcs"},
    description="The bucket that a connection's tasks come from. The sensors `s3_objects` and "
    "`gcs_objects` compare it with the ledger.",
)
labels = dg.AssetSpec(
    "labels",
    deps=["tasks"],
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"labelstudio"},
    description="The annotations of the tasks, in Label Studio. The sensor `completions` "
    "compares them with the ledger.",
)
target_bucket = dg.AssetSpec(
    "target_bucket",
    deps=["completions", "training_data"],
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"s3", "gcs"},
    description="The bucket that completions and training data are written to. Training jobs read "
    "it with `ls_pipeline.open_snapshot`.",
)
EXTERNAL_ASSETS = [source_bucket, labels, target_bucket]
