"""The formats of objects: how each becomes rows."""
