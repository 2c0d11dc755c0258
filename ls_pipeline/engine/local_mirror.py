"""Local copies, in the home: what a source selects, or what was written to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import ExternalSystemError
from ls_pipeline.domain.exports import is_written_key
from ls_pipeline.engine.manifest import filter_of
from ls_pipeline.resources.local_copy import CopyResult, LocalCopy
from ls_pipeline.settings.params import SourceParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.settings.model import Source, Target


def local_copy(run: RunContext, part: Source | Target) -> LocalCopy:
    """Return the copy of one side of a connection, in ``<home>/copies/<name>/<side>``."""
    return LocalCopy(run.place.folder / "copies" / run.name / part.side)


def mirror_is_stale(ledger: ConnectionLedger, part: Source | Target) -> bool:
    """Return whether a local copy is wanted, and is not up to date with these settings."""
    return part.params.create_local_copy and ledger.mirror_state(part.side) != _scope(part)


def mark_mirror_stale(run: RunContext, part: Source | Target) -> None:
    """Record that a run may change what is copied. The copy is stale until it is updated."""
    if part.params.create_local_copy:
        run.held.set_mirror_state(part.side, "")


def update_mirror(run: RunContext, part: Source | Target) -> CopyResult | None:
    """Bring the local copy up to date, if one is wanted.

    Raises ``ExternalSystemError`` and ``LocalCopyError``; the next run continues from there.
    """
    if not part.params.create_local_copy:
        return None

    def advance(done: int) -> None:
        run.advance(f"{part.side} copy", done)

    result = local_copy(run, part).update(run.bucket, _selected(part, run.bucket), advance)
    if result.refused:
        raise ExternalSystemError(" ".join(result.refused))
    run.held.set_mirror_state(part.side, _scope(part))
    return result


def _scope(part: Source | Target) -> str:
    """Return what a copy depends on: the bucket and the filter."""
    return part.root + part.params.filter.text


def _selected(part: Source | Target, bucket: Bucket) -> Iterator[StoredObject]:
    wanted = _is_wanted(part, bucket)
    pages = bucket.pages(part.params.filter.folder)
    return (stored for page in pages for stored in page if wanted(stored.key))


def _is_wanted(part: Source | Target, bucket: Bucket) -> Callable[[str], bool]:
    select = part.params.filter
    if isinstance(part.params, SourceParams):
        select = filter_of(bucket, part.params)
        return lambda key: not select.rejected_by(key)
    return lambda key: is_written_key(select.prefix, key)
