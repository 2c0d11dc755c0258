"""What the assets are divided by."""

import dagster as dg

CONNECTIONS = dg.DynamicPartitionsDefinition(name="connections")
"""A connection is a partition of every asset."""
