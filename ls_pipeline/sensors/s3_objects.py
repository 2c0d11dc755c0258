"""The ``s3_objects`` sensor: looks for new objects in S3 buckets."""

import dagster as dg

from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.sensors.probes import ProbePool


def s3_objects(seconds: int) -> dg.SensorDefinition:
    """Make the sensor that asks for ``load_tasks`` where an S3 bucket has changed."""
    looks = ProbePool()

    @dg.sensor(
        name="s3_objects",
        job_name="load_tasks",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares the S3 buckets of all connections with the ledger, and asks for "
        "a run of each connection where they differ.",
    )
    def look(
        context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger], s3: S3Buckets
    ) -> dg.SensorResult:
        return objects_tick(context, ledger, "s3", s3.bucket_of, looks)

    return look
