"""Servers that `start`, `demo` and the tests run on loopback."""
