"""What assets are made from and for: not ours to make, but part of the picture."""

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS

source_bucket = dg.AssetSpec(
    "source_bucket",
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"s3", "gcs"},
    description="The bucket that a connection takes tasks from. The sensors `s3_objects` and "
    "`gcs_objects` compare it with the ledger.",
)
labels = dg.AssetSpec(
    "labels",
    deps=["tasks"],
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"labelstudio"},
    description="What annotators make of the tasks, in Label Studio. The sensor `completions` "
    "compares it with the ledger.",
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
