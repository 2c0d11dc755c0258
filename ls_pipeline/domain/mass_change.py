"""The guard against mass changes: an emptied bucket, a wrong prefix and a reset look alike."""

from __future__ import annotations

FEWEST = 20
"""Tasks or files; fewer are never a mass change."""


def is_mass_change(count: int, total: int) -> bool:
    """Return whether ``count`` of ``total`` tasks or files are more than a run may take away."""
    return count >= FEWEST and 2 * count > total
