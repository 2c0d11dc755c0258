"""Local copies: what a source matches, or what a target has got, below the home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import ExternalSystemError
from ls_pipeline.domain.exports import is_written_key
from ls_pipeline.resources.environment import home
from ls_pipeline.resources.local_copy import CopyResult, LocalCopy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Source, Target


def local_copy(name: str, part: Source | Target) -> LocalCopy:
    """Give the copy of one side of a connection: ``<home>/copies/<name>/source``, ``…/target``."""
    return LocalCopy(home() / "copies" / name / part.side)


def mirror_is_stale(account: Account, part: Source | Target) -> bool:
    """Tell whether a copy is wanted that was not finished with these settings."""
    return part.params.create_local_copy and account.mirror_state(part.side) != _what(part)


def mark_mirror_stale(account: Account, lease: Lease, part: Source | Target) -> None:
    """Record that a pass may change what there is to copy: a copy is due until it is kept."""
    if part.params.create_local_copy:
        account.set_mirror_state(lease, part.side, "")


def update_mirror(
    account: Account, lease: Lease, part: Source | Target, bucket: Bucket, progress: Progress
) -> CopyResult | None:
    """Bring the local copy up to date, if one is wanted.

    Raises ``ExternalSystemError`` and ``LocalCopyError``; the next pass goes on where it stopped.
    """
    if not part.params.create_local_copy:
        return None

    def told(done: int) -> None:
        progress.advance(account.name, f"{part.side} copy", done)

    done = local_copy(account.name, part).update(bucket, _selected(part, bucket), told)
    if done.refused:
        raise ExternalSystemError(" ".join(done.refused))
    account.set_mirror_state(lease, part.side, _what(part))
    return done


def _what(part: Source | Target) -> str:
    return f"{part.root}{part.params.filter.folder} {part.params.regex}"


def _selected(part: Source | Target, bucket: Bucket) -> Iterator[StoredObject]:
    wanted = _is_wanted(part)
    pages = bucket.pages(part.params.filter.folder)
    return (one for page in pages for one in page if wanted(one.key))


def _is_wanted(part: Source | Target) -> Callable[[str], bool]:
    select = part.params.filter
    if part.side == "source":
        return lambda key: not select.rejected_by(key)
    return lambda key: is_written_key(select.prefix, key)
