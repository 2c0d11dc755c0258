"""What a run does. Knows no Dagster."""
