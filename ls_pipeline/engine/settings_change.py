"""What a change of settings means for existing tasks and files, before it is saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import BucketAccessError, UnknownConnectionError
from ls_pipeline.domain.exports import completion_key
from ls_pipeline.settings.diff import ChangedSetting, diff_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ls_pipeline.domain.objects import Filter
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.model import Connection, Source, Target

LISTED_AT_MOST = 100_000
"""Keys that a preview counts."""

SHOWN = 20
"""Keys that a preview shows."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """A change of a connection's settings that is not saved yet."""

    connection: Connection
    base_revision: int
    """The revision that it changes; 0 if the connection is new or was removed."""
    changes: list[ChangedSetting]
    notes: list[str]
    """What it means for existing tasks and files, in sentences."""

    def save(self, ledger: Ledger, saved_by: str) -> int:
        """Save it; return the number of the revision. Raises ``InvalidConnectionError``."""
        return ledger.save(self.connection, saved_by, self.base_revision or None)


def plan_change(ledger: Ledger, connection: Connection) -> SettingsChange:
    """Return what new settings change, and what follows. Saves nothing."""
    try:
        connection_ledger = ledger.connection_ledger(connection.name)
    except UnknownConnectionError:
        return SettingsChange(connection, 0, diff_settings(None, connection), [])
    revision = connection_ledger.settings.in_force()
    before, notes = revision.readable, list[str]()
    if before:
        notes += _consequences(connection_ledger, before, connection)
    changed = diff_settings(before, connection)
    return SettingsChange(connection, revision.number, changed, notes)


def _consequences(
    connection_ledger: ConnectionLedger, before: Connection, after: Connection
) -> Iterator[str]:
    if before.enabled and not after.enabled:
        yield "Nothing is loaded or exported until it is enabled again."
    if before.source and after.source:
        yield from _for_tasks(connection_ledger, before.source, after.source)
    if before.source and not after.source and connection_ledger.objects.has_tasks():
        yield "No more objects are loaded; existing tasks stay."
    if before.target and after.target:
        yield from _for_files(connection_ledger, before.target, after.target)
    if before.target and not after.target:
        yield "No more completions are exported; existing files stay."


def _for_tasks(connection_ledger: ConnectionLedger, before: Source, after: Source) -> Iterator[str]:
    old, new = before.params, after.params
    if old.filter != new.filter and (unmatched := _unmatched(connection_ledger, new.filter)):
        yield f"{_objects(unmatched)} with tasks no longer match; their tasks stay in Label Studio."
    if old.reading != new.reading and connection_ledger.objects.has_tasks():
        yield (
            "Existing tasks keep their data. New and replaced objects are read "
            f"{_reading(after)}, not {_reading(before)}."
        )
    if count := len(connection_ledger.objects.quarantined_keys(not_read_as=new.reading)):
        yield f"{_objects(count)} in quarantine will be tried again."
    deletes = old.on_delete != new.on_delete == "delete"
    if deletes and connection_ledger.objects.count()[State.REMOVED]:
        yield "Tasks of objects that were removed earlier stay."
    if old.create_local_copy and not new.create_local_copy:
        yield "The local copy stays, and is no longer updated."


def _for_files(connection_ledger: ConnectionLedger, before: Target, after: Target) -> Iterator[str]:
    old, new = before.params, after.params
    moved = (before.root, old.prefix) != (after.root, new.prefix)
    if moved and connection_ledger.exports.task_ids():
        yield (
            f"All completions will be written to {after.uri(new.filter.folder)}; the files in "
            f"{before.uri(old.filter.folder)} stay."
        )
    if old.split_rule != new.split_rule:
        yield "The next snapshot moves tasks to other splits, once."
    if old.create_local_copy and not new.create_local_copy:
        yield "The local copy stays, and is no longer updated."


def _unmatched(connection_ledger: ConnectionLedger, select: Filter) -> int:
    loaded = (
        known.key for known in connection_ledger.objects.known() if known.state is State.LOADED
    )
    return sum(bool(select.rejected_by(key)) for key in loaded)


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _reading(source: Source) -> str:
    params = source.params
    if params.fills_one_key:
        noun = "blobs" if params.use_blob_urls else "texts"
        under = repr(params.data_key) if params.data_key else "the first data key"
        return f"as {noun} under {under}"
    forms = {"auto": "by their suffix or content", "json": "as JSON", "jsonl": "as JSON Lines"}
    form = forms.get(params.format, f"as {params.format.upper()}")
    return f"{form}, with column_map" if params.column_map else form


@dataclass
class Preview:
    """The keys that a filter selects, and those that it rejects."""

    matching: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of rejected keys, by what rejects them, as `Filter.rejected_by` returns it."""
    first: list[str] = field(default_factory=list)
    first_dropped: list[tuple[str, str]] = field(default_factory=list)
    """(key, what rejects it)."""
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, rejected_by: str) -> None:
        """Count a key; ``rejected_by`` is empty if the filter selects it."""
        if rejected_by:
            self.dropped[rejected_by] += 1
            if len(self.first_dropped) < SHOWN:
                self.first_dropped.append((key, rejected_by))
        else:
            self.matching += 1
            if len(self.first) < SHOWN:
                self.first.append(key)


def preview_source(bucket: Bucket, select: Filter) -> Preview:
    """Return what a source's filter selects from a bucket.

    Lists `LISTED_AT_MOST` keys below the prefix, and as many in the whole bucket. Raises
    ``BucketError``, except if only the rest of the bucket must not be listed: that is a note.
    """
    preview = Preview()
    _count(preview, bucket, select, select.folder)
    if select.folder:
        try:
            _count(preview, bucket, select, "")
        except BucketAccessError:
            preview.notes.append("Keys outside the prefix are not counted: access is refused.")
    return preview


def _count(preview: Preview, bucket: Bucket, select: Filter, prefix: str) -> None:
    """Count the keys below ``prefix``; in the whole bucket, only those outside the folder."""
    keys = (stored.key for page in bucket.pages(prefix) for stored in page)
    for key in islice(keys, LISTED_AT_MOST):
        rejected_by = select.rejected_by(key)
        if prefix == select.folder or rejected_by == "prefix":
            preview.add(key, rejected_by)
    if next(keys, None) is not None:
        where = f"below {prefix}" if prefix else "in the bucket"
        preview.notes.append(f"Only the first {LISTED_AT_MOST:,} keys {where} are counted.")


def preview_target(task_ids: Iterable[int], select: Filter) -> Preview:
    """Return the keys of a target's completions, and those that its filter rejects."""
    preview = Preview()
    for task_id in task_ids:
        key = completion_key(select.prefix, task_id)
        preview.add(key, select.rejected_by(key))
    return preview
