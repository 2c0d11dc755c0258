"""Sensors: they only read, and request a run if a connection has work."""
