"""The ``training_data`` sensor: sees when the asset's automation condition holds."""

import warnings

import dagster as dg


def training_data(seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Make the sensor that asks for a snapshot where completions changed and one is due."""
    with warnings.catch_warnings():
        # The condition asks our ledger, so it is evaluated where that can be reached.
        warnings.filterwarnings("ignore", ".*use_user_code_server", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            name="training_data",
            target=dg.AssetSelection.assets("training_data"),
            minimum_interval_seconds=seconds,
            default_status=dg.DefaultSensorStatus.RUNNING,
            use_user_code_server=True,
            emit_backfills=False,  # each connection has a run of its own
            description="Asks for a snapshot of each connection whose completions changed since "
            "its last one, by the target's snapshot_minutes or snapshot_cron.",
        )
