"""Sensors that evaluate automation conditions written in Python."""

import warnings
from typing import Any

import dagster as dg


def automation_sensor(
    name: str,
    target: dg.AssetSelection,
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    **options: Any,
) -> dg.AutomationConditionSensorDefinition:
    """Return a sensor that evaluates conditions written in Python, such as `new_labels`.

    Dagster's default automation sensor evaluates only its own conditions. ``options`` are others of
    ``dagster.AutomationConditionSensorDefinition``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*use_user_code_server", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            name=name,
            target=target,
            use_user_code_server=True,
            minimum_interval_seconds=minimum_interval_seconds,
            default_status=default_status,
            **options,
        )
