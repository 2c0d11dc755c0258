"""A pipeline in any Dagster project: its definitions, and what reads its training data."""
