"""The ``gcs_objects`` sensor: looks for new objects in GCS buckets."""

import dagster as dg

from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.sensors.probes import ProbePool


def gcs_objects(seconds: int) -> dg.SensorDefinition:
    """Make the sensor that asks for ``load_tasks`` where an GCS bucket has changed."""
    looks = ProbePool()

    @dg.sensor(
        name="gcs_objects",
        job_name="load_tasks",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares the GCS buckets of all connections with the ledger, and asks for "
        "a run of each connection where they differ.",
    )
    def look(
        context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger], gcs: GCSBuckets
    ) -> dg.SensorResult:
        return objects_tick(context, ledger, "gcs", gcs.bucket_of, looks)

    return look
