"""Training data for a team's own assets: the resource ``TrainingData``."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource.
import hashlib
from contextlib import closing
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.reader import Snapshot, open_in
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.s3.bucket import S3Buckets


class TrainingData(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens snapshots of a pipeline's connections.

    `build_definitions` returns one as the resource ``<prefix>_training_data``, with the pipeline's
    ledger and credentials. Another code location configures its own, which uses the credentials of
    its environment.
    """

    prefix: str = Field(default="", description="The pipeline's prefix.")
    home: str = Field(
        default="", description="The pipeline's home. Default: LS_PIPELINE_HOME, else .ls_pipeline."
    )
    database_url: str = Field(
        default="",
        description="The pipeline's ledger. Default: a file in home if that is given, else "
        "LS_PIPELINE_DATABASE_URL, else a file in the default home.",
    )
    cache: str = Field(
        default="", description="The folder for fetched files. Default: ~/.cache/ls_pipeline."
    )

    _s3: S3Buckets = PrivateAttr(default_factory=S3Buckets)
    _gcs: GCSBuckets = PrivateAttr(default_factory=GCSBuckets)

    def with_buckets(self, s3: S3Buckets, gcs: GCSBuckets) -> "TrainingData":
        """Return this resource with other credentials for buckets."""
        changed = self.model_copy()
        changed._s3, changed._gcs = s3, gcs  # noqa: SLF001 - its own class
        return changed

    def snapshot(self, connection: str, name: str = "") -> Snapshot:
        """Open a connection's newest snapshot, or the one called ``name``.

        Raises ``SnapshotError`` without a snapshot, ``UnknownConnectionError``, and
        ``BucketError`` if the bucket fails.
        """
        place = Pipeline(self.prefix, home=self.home, database_url=self.database_url).place
        with closing(Ledger(place.database_url)) as ledger:
            target = ledger.connection(connection).target
        if target is None:
            raise SnapshotError(
                f"Connection {connection!r} has no target, so it has no training data.",
                hint="Give it one: then materialize training_data.",
            )
        bucket = (self._s3 if target.cloud == "s3" else self._gcs).bucket_of(target)
        params = target.params.model_dump(mode="json", exclude_defaults=True)
        path = target.params.prefix.strip("/")
        return open_in(bucket, path, name, params=params, cache=self.cache or None)

    def materialized(
        self, context: dg.AssetExecutionContext, connection: str | None = None
    ) -> Snapshot:
        """Open the snapshot that Dagster knows as the newest of a connection.

        Dagster records it as the input, as `was_input_of` tells. ``connection`` is the partition of
        the run by default.

        Raises ``SnapshotError`` if ``training_data`` was not materialized, and as `snapshot` does.
        """
        connection = connection or context.partition_key
        name = snapshot_name(
            context.instance, Pipeline(self.prefix).key("training_data"), connection
        )
        if not name:
            raise SnapshotError(
                f"Connection {connection!r} has no training data yet.",
                hint="Materialize the asset training_data.",
            )
        return self.snapshot(connection, name)

    def was_input_of(self, materialization: dg.AssetMaterialization, name: str) -> bool:
        """Return whether Dagster recorded a snapshot as the input of a materialization.

        Of an input with partitions, Dagster records a hash of their data versions.
        """
        key = Pipeline(self.prefix).key("training_data").to_user_string()
        recorded = (materialization.tags or {}).get(f"dagster/input_data_version/{key}")
        return recorded in {name, hashlib.sha256(name.encode()).hexdigest()}


def snapshot_name(instance: dg.DagsterInstance, key: dg.AssetKey, connection: str) -> str:
    """Return the data version of a partition of ``training_data``; empty if it has none."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[connection])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        tags: Any = record.asset_materialization.tags if record.asset_materialization else None
        return str((tags or {}).get("dagster/data_version", ""))
    return ""
