"""The `doctor` command: what it checks, what it reports."""
