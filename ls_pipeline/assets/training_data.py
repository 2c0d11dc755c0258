"""The ``training_data`` asset: all annotations of a connection, as one Parquet table."""

from typing import Any

import dagster as dg

from ls_pipeline.assets.completions import completions
from ls_pipeline.assets.copying import copy_metadata, keep_copy
from ls_pipeline.assets.exporting import refresh_table
from ls_pipeline.assets.passes import bucket_of, nothing_to_do, one_pass
from ls_pipeline.connections import CONNECTIONS
from ls_pipeline.domain.exports import annotations_schema
from ls_pipeline.resources.gcs import GCSBuckets
from ls_pipeline.resources.label_studio import LabelingApp
from ls_pipeline.resources.ledger import Ledger
from ls_pipeline.resources.progress import Progress
from ls_pipeline.resources.s3 import S3Buckets

DESCRIPTION = """
One row an annotation, of every completion in the target, as
`<prefix>/training_data/annotations.parquet`. The columns never depend on the labels; `result`
holds the annotation verbatim. The file is replaced whole, and only when a completion changed.
"""


@dg.asset(
    partitions_def=CONNECTIONS,
    deps=[completions],
    group_name="labeling",
    kinds={"parquet"},
    description=DESCRIPTION,
)
def training_data(  # noqa: PLR0913, PLR0917 - the outside world, a part each
    context: dg.AssetExecutionContext,
    ledger: dg.ResourceParam[Ledger],
    s3: S3Buckets,
    gcs: GCSBuckets,
    label_studio: dg.ResourceParam[LabelingApp],
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Refresh the Parquet table when any completion changed."""
    with one_pass(ledger, context.partition_key, "completions") as work:
        target = work.connection.target
        if target is None or not work.connection.enabled:
            return nothing_to_do(work.connection, "target")
        bucket = bucket_of(target, s3, gcs)
        project = work.project(label_studio)
        table = refresh_table(work.account, work.lease, project, target, bucket, label_studio)
        copied = keep_copy(work.account, work.lease, target, bucket, progress)
        metadata: dict[str, dg.MetadataValue[Any] | dg.TableSchema] = {
            "dagster/uri": dg.MetadataValue.text(table.uri),
            "dagster/column_schema": _column_schema(),
            **copy_metadata(work.connection.name, target, copied),
        }
        if table.rows is None:
            metadata["note"] = dg.MetadataValue.text("Up to date: no completion changed.")
        else:
            metadata["dagster/row_count"] = dg.MetadataValue.int(table.rows)
        return dg.MaterializeResult(metadata=metadata)


def _column_schema() -> dg.TableSchema:
    columns = [
        dg.TableColumn(
            column.name, str(column.type), constraints=dg.TableColumnConstraints(column.nullable)
        )
        for column in annotations_schema()
    ]
    return dg.TableSchema(columns)
