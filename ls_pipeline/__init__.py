"""Label Studio's cloud storage, rebuilt as a Dagster project."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ls_pipeline.domain.errors import BucketError, PipelineError, SnapshotError
    from ls_pipeline.reader import Snapshot, open_snapshot

__all__ = ["BucketError", "PipelineError", "Snapshot", "SnapshotError", "open_snapshot"]


def __getattr__(name: str) -> Any:
    """Import at first use: the reader is slow to import, and most commands don't need it."""
    if name not in __all__:
        raise AttributeError(f"module 'ls_pipeline' has no attribute {name!r}")
    from ls_pipeline import reader
    from ls_pipeline.domain import errors

    return getattr(errors if hasattr(errors, name) else reader, name)
