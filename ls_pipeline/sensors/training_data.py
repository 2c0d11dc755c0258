"""The ``training_data`` sensor: evaluates the automation condition of the asset."""

import dagster as dg

from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.sensors.automation import automation_sensor


def training_data(pipeline: Pipeline, seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that requests a snapshot if completions changed and one is due."""
    # Only the code server can reach the ledger, which the condition reads.
    return automation_sensor(
        pipeline.name("training_data"),
        dg.AssetSelection.assets(pipeline.key("training_data")),
        seconds,
        pipeline.sensor_status,
        emit_backfills=False,  # each connection gets its own run
        description="Requests a snapshot of each connection whose completions changed since "
        "its last one, by the target's snapshot_minutes or snapshot_cron.",
    )
