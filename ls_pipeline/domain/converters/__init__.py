"""Completions in the formats of training programs."""
