"""Google Cloud Storage in Dagster: buckets over the client of dagster-gcp's ``GCSResource``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.resources.gcs.bucket import GCSBuckets

if TYPE_CHECKING:
    from dagster_gcp.gcs import GCSResource


def gcs_buckets(gcs: GCSResource | None = None) -> GCSBuckets:
    """Return the buckets that a resource reaches; by default, the environment's."""
    if gcs is None:
        return GCSBuckets()
    return GCSBuckets(project=gcs.project or "", new_client=gcs.get_client)
