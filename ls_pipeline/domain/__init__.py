"""Decisions, as pure functions of values: no Dagster, network, clock or environment."""
