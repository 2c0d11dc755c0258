"""What a change of settings means, before it happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import BucketAccessError, UnknownConnectionError
from ls_pipeline.domain.exports import completion_key
from ls_pipeline.settings.diff import SettingChange, diff_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.domain.objects import Filter
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.model import Connection, Source, Target

LISTED_AT_MOST = 100_000
"""Keys that a preview looks at."""

SHOWN = 20
"""Keys that a preview shows."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """A change of a connection's settings that is not stored yet."""

    connection: Connection
    base_revision: int
    """The revision that it changes, 0 for a connection that is new or comes back."""
    changes: list[SettingChange]
    notes: list[str]
    """What it means for the tasks and files that exist, each a sentence."""

    def save(self, ledger: Ledger, saved_by: str) -> int:
        """Store it; give the revision's number. Raises ``InvalidConnectionError``."""
        return ledger.save(self.connection, saved_by, self.base_revision or None)


def plan_change(ledger: Ledger, connection: Connection) -> SettingsChange:
    """Tell what a connection's new settings change, and what follows; store nothing."""
    try:
        account = ledger.account(connection.name)
    except UnknownConnectionError:
        return SettingsChange(connection, 0, diff_settings(None, connection), [])
    before = account.revision()
    found = diff_settings(before.connection, connection)
    notes = list(_consequences(account, before.connection, connection))
    return SettingsChange(connection, before.number, found, notes)


def _consequences(account: Account, before: Connection, after: Connection) -> Iterator[str]:
    if before.enabled and not after.enabled:
        yield "Nothing is loaded or exported until it is enabled again."
    if before.source and after.source:
        yield from _for_tasks(account, before.source, after.source)
    if before.source and not after.source and account.has_tasks():
        yield "Nothing more is loaded; the tasks that exist stay."
    if before.target and after.target:
        yield from _for_files(account, before.target, after.target)
    if before.target and not after.target:
        yield "Nothing more is exported; the files that exist stay."


def _for_tasks(account: Account, before: Source, after: Source) -> Iterator[str]:
    old, new = before.params, after.params
    if old.filter != new.filter and (left := _left_out(account, new.filter)):
        yield f"{_objects(left)} with tasks no longer match; their tasks stay in Label Studio."
    if old.reading != new.reading and account.has_tasks():
        yield (
            "Tasks that exist keep their data; objects that are new or replaced from now on are "
            f"read {_read(after)}, not {_read(before)}."
        )
    if held := len(account.outlived_quarantine(new.reading)):
        yield f"{_objects(held)} in quarantine will be tried again."
    if old.on_delete != new.on_delete == "delete" and account.count_objects()[State.REMOVED]:
        yield "Tasks of objects that were removed before stay."
    if old.create_local_copy and not new.create_local_copy:
        yield "The local copy stays as it is, and is not kept up to date any more."


def _for_files(account: Account, before: Target, after: Target) -> Iterator[str]:
    old, new = before.params, after.params
    if (before.root, old.prefix) != (after.root, new.prefix) and account.exported_ids():
        yield (
            f"All completions will be written to {after.uri(new.filter.folder)}; the files in "
            f"{before.uri(old.filter.folder)} stay."
        )
    if old.create_local_copy and not new.create_local_copy:
        yield "The local copy stays as it is, and is not kept up to date any more."


def _left_out(account: Account, select: Filter) -> int:
    loaded = (one for one in account.known() if one.state is State.LOADED)
    return sum(bool(select.rejected_by(one.key)) for one in loaded)


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _read(source: Source) -> str:
    if not source.params.use_blob_urls:
        return "as JSON tasks"
    return f"as blobs under {source.params.data_key or 'the first data key'!r}"


@dataclass
class Preview:
    """What a filter selects, and what it leaves out."""

    matching: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Keys by the filter that leaves them out: ``prefix``, ``folder``, ``regex``."""
    first: list[str] = field(default_factory=list)
    first_dropped: list[tuple[str, str]] = field(default_factory=list)
    """(key, filter) of some."""
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, why: str) -> None:
        """Count a key that ``why`` leaves out, if anything does."""
        if why:
            self.dropped[why] += 1
            if len(self.first_dropped) < SHOWN:
                self.first_dropped.append((key, why))
        else:
            self.matching += 1
            if len(self.first) < SHOWN:
                self.first.append(key)


def preview_source(bucket: Bucket, select: Filter) -> Preview:
    """Show what a source's filter selects of a bucket's first keys.

    Looks at `LISTED_AT_MOST` keys below the prefix, and at as many of the whole bucket.

    Raises ``BucketError``; where only the rest of the bucket may not be listed, that is a note.
    """
    found = Preview()
    _count(found, bucket, select, select.folder)
    if select.folder:
        try:
            _count(found, bucket, select, "")
        except BucketAccessError:
            found.notes.append("What the prefix leaves out may not be listed.")
    return found


def _count(found: Preview, bucket: Bucket, select: Filter, prefix: str) -> None:
    """Count the keys under ``prefix``; for the whole bucket only those outside the folder."""
    keys = (one.key for page in bucket.pages(prefix) for one in page)
    for key in islice(keys, LISTED_AT_MOST):
        why = select.rejected_by(key)
        if prefix == select.folder or why == "prefix":
            found.add(key, why)
    if next(keys, None) is not None:
        where = f"below {prefix}" if prefix else "in the bucket"
        found.notes.append(f"Only the first {LISTED_AT_MOST:,} keys {where} were looked at.")


def preview_target(task_ids: Iterable[int], select: Filter) -> Preview:
    """Show the keys under which a target's completions are written, and those left out."""
    found = Preview()
    for task_id in task_ids:
        key = completion_key(select.prefix, task_id)
        found.add(key, select.rejected_by(key))
    return found
