"""The ``training_data`` sensor: evaluates the automation condition of the asset."""

import warnings

import dagster as dg

from ls_pipeline.assets.pipeline import Pipeline


def training_data(pipeline: Pipeline, seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that requests a snapshot if completions changed and one is due."""
    with warnings.catch_warnings():
        # Only the code server can reach the ledger, which the condition reads.
        warnings.filterwarnings("ignore", ".*use_user_code_server", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            name=pipeline.name("training_data"),
            target=dg.AssetSelection.assets(pipeline.key("training_data")),
            minimum_interval_seconds=seconds,
            default_status=pipeline.sensor_status,
            use_user_code_server=True,
            emit_backfills=False,  # each connection gets its own run
            description="Requests a snapshot of each connection whose completions changed since "
            "its last one, by the target's snapshot_minutes or snapshot_cron.",
        )
