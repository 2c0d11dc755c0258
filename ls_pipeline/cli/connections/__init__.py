"""The `connections` commands, and files of connections."""
