"""The ``training_data`` sensor: sees when the asset's automation condition holds."""

import dagster as dg


def training_data(seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Make the sensor that asks for a snapshot where completions changed and one is due."""
    return dg.AutomationConditionSensorDefinition(
        name="training_data",
        target=dg.AssetSelection.assets("training_data"),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        # The condition asks our ledger, and each connection has a run of its own.
        use_user_code_server=True,
        emit_backfills=False,
        description="Asks for a snapshot of each connection whose completions changed since its "
        "last one, by the target's snapshot_minutes or snapshot_cron.",
    )
