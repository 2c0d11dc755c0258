"""What a connection is, and whether its settings are valid."""
