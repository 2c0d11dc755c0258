"""What exists, in Dagster's words: tasks, completions, training data."""
