"""Label Studio's cloud storage, rebuilt as a Dagster project."""
