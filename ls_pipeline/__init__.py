"""Label Studio's cloud storage, rebuilt as a Dagster project."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ls_pipeline.reader import Snapshot, open_snapshot

__all__ = ["Snapshot", "open_snapshot"]


def __getattr__(name: str) -> Any:
    """Import the reader when it is asked for: most commands needn't pay for it."""
    if name not in __all__:
        raise AttributeError(f"module 'ls_pipeline' has no attribute {name!r}")
    from ls_pipeline import reader

    return getattr(reader, name)
