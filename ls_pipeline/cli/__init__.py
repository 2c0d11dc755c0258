"""The command line."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of every program that a shell starts."""
