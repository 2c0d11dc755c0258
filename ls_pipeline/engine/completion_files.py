"""Writes the files of completions to the target, each behind an intent in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from ls_pipeline.domain.batches import sized_batches
from ls_pipeline.domain.errors import BucketAccessError, ObjectChangedError, ObjectRefusedError
from ls_pipeline.domain.exports import TOMBSTONE, completion_key, json_document, tombstone
from ls_pipeline.domain.notes import Notes
from ls_pipeline.resources.ledger.records import Exported, Intent, Kind, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from typing import TypeAlias

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.settings.model import Target

    Refusal: TypeAlias = BucketAccessError | ObjectRefusedError
    Written: TypeAlias = StoredObject | Refusal | None
    """The file that was written, if any, or why the target refused it."""

REFUSALS = BucketAccessError, ObjectRefusedError
"""What is said of a single file: it may be locked, or its encryption key disabled."""

WRITERS = 16
"""Files written, or read back, at the same time."""

WRITE_BYTES = 8 * 2**20
"""Bytes of completions that are written, or read back, at the same time."""

WRITE_TRIES = 3
"""How often a file is written onto a newer version, before it is an error."""

REFUSED_AT_MOST = 20
"""Files that the target refuses, before it counts as the bucket's fault."""

FIRST_WRITTEN = 10
"""Files that a result shows."""


@dataclass
class ExportResult:
    """What a run over the completions did, for people to read."""

    selected: int = 0
    """Tasks that were read in full."""
    written: int = 0
    unchanged: int = 0
    emptied: int = 0
    """Tasks that lost their last annotation: their documents have none, or are deleted."""
    deleted: int = 0
    """Tasks deleted in Label Studio: their documents become tombstones, or are deleted."""
    uncounted: list[int] = field(default_factory=list)
    """Recently touched tasks that are annotated, while Label Studio counts no annotation."""
    first_written: list[StoredObject] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    """What a person should know although the run succeeded."""
    refused: dict[str, Refusal] = field(default_factory=dict)
    """URIs of files that could not be written, and why."""

    def count(self, completions: Sequence[Completion], stored: Sequence[Written]) -> None:
        """Count completions, each with its file if it was written.

        Raises the last refusal if so many files were refused that it is the bucket's fault.
        """
        for completion, file in zip(completions, stored, strict=True):
            if isinstance(file, REFUSALS):
                self.refuse(file)
                continue
            self.written += file is not None
            self.unchanged += file is None
            self.emptied += not completion.annotations
            if file and len(self.first_written) < FIRST_WRITTEN:
                self.first_written.append(file)

    def refuse(self, error: Refusal) -> None:
        """Count a file that the target refused. Raises the error if they are too many."""
        self.refused[error.uri] = error
        if len(self.refused) >= REFUSED_AT_MOST:
            raise error


@dataclass(frozen=True)
class BegunFiles:
    """Completions whose intent is recorded, so that their files may be written."""

    completions: Sequence[Completion]
    rows: Mapping[int, TaskRow]
    """The files that differ from what is in the target, by task id."""
    last: Mapping[int, Exported]
    intent: Intent | None
    """None if no file differs."""


def write_completions(
    run: RunContext, writers: Executor, completions: Sequence[Completion], result: ExportResult
) -> None:
    """Write the completions that differ from what is in the target, and record them.

    Raises as `write_begun` does.
    """
    write_begun(run, writers, begin_completions(run, completions), result)


def begin_completions(run: RunContext, completions: Sequence[Completion]) -> BegunFiles:
    """Record that the completions that differ from what is in the target are about to be written.

    Raises ``LeaseLostError``, and ``IdentityError`` if another installation has taken over.
    """
    target = run.target
    last = run.held.exports.last_written([completion.task_id for completion in completions])
    files = [_file_row(target, each.task_id, each.digest, last) for each in completions]
    rows = {row.task_id: row for row in files if _differs(row, target, last.get(row.task_id))}
    intent = begin_files(run, list(rows.values())) if rows else None
    return BegunFiles(completions, rows, last, intent)


def write_begun(
    run: RunContext, writers: Executor, begun: BegunFiles, result: ExportResult
) -> None:
    """Write the files of completions, and record them.

    A file that the target refuses stays unfinished, and the others are written. Raises
    ``LeaseLostError`` if a newer run has taken over; the target is then as it should be.
    """
    completions, rows, target = begun.completions, begun.rows, run.target

    def write(completion: Completion) -> Written:
        row = rows.get(completion.task_id)
        return _or_refusal(lambda: _write(run, completion, row)) if row else None

    together = sized_batches(completions, attrgetter("size"), WRITE_BYTES)
    stored = [file for batch in together for file in writers.map(write, batch)]
    records = [
        _record_of(completion, rows[completion.task_id], target, file)
        if completion.task_id in rows
        else replace(begun.last[completion.task_id], updated_at=completion.updated_at)
        for completion, file in zip(completions, stored, strict=True)
        if not isinstance(file, REFUSALS)
    ]
    run.held.exports.record(records, changed=bool(rows), closing=begun.intent)
    result.count(completions, stored)


def bury_files(run: RunContext, gone: Sequence[Exported], result: ExportResult) -> None:
    """Replace the files of tasks that no longer exist by tombstones, or delete them."""
    last = {exported.task_id: exported for exported in gone}
    rows = [_file_row(run.target, task_id, TOMBSTONE, last) for task_id in last]
    intent, records, refused = begin_files(run, rows), [], []
    for row in rows:
        run.held.renew()
        stored = _or_refusal(partial(_write_tombstone, run, row))
        if isinstance(stored, REFUSALS):
            refused.append(stored)
            continue
        records.append(
            Exported(
                row.task_id,
                last[row.task_id].updated_at,
                TOMBSTONE,
                run.target.uri(row.key),
                0,
                stored.version if stored else "",
            )
        )
    run.held.exports.record(records, closing=intent)
    result.deleted += len(records)
    for error in refused:
        result.refuse(error)


def begin_files(run: RunContext, rows: Sequence[TaskRow]) -> Intent:
    """Record that files are about to be written; a snapshot in its own folder has no rows."""
    intent = Intent(Kind.WRITE, tuple(rows), run.target.root, run.revision.number)
    return run.effects.begin(intent, [run.target_identity.announce])


def _file_row(target: Target, task_id: int, digest: str, last: Mapping[int, Exported]) -> TaskRow:
    """Return a file that is about to be written, with the version that it replaces."""
    key, before = completion_key(target.params.prefix, task_id), last.get(task_id)
    version = before.version if before and before.uri == target.uri(key) else ""
    return TaskRow(key, 0, version, digest, task_id)


def _differs(row: TaskRow, target: Target, last: Exported | None) -> bool:
    return last is None or (row.digest, target.uri(row.key)) != (last.digest, last.uri)


def _write(run: RunContext, completion: Completion, row: TaskRow) -> StoredObject | None:
    if run.target.params.delete and not completion.annotations:
        run.held.renew()
        run.bucket.delete(row.key)
        return None
    if not completion.annotations and not run.bucket.version(row.key):
        return None  # there is nothing to empty
    return _put(run, row, json_document(completion))


def _or_refusal(write: Callable[[], StoredObject | None]) -> Written:
    """Return what a write does, or the error if the target refuses that file."""
    try:
        return write()
    except REFUSALS as error:
        return error


def _write_tombstone(run: RunContext, row: TaskRow) -> StoredObject | None:
    params = run.target.params
    if params.delete:
        run.bucket.delete(row.key)
    elif not params.filter.rejected_by(row.key):
        exists = row.version or run.bucket.version(row.key)
        return _put(run, row, tombstone(row.task_id)) if exists else None
    return None


def _put(run: RunContext, row: TaskRow, body: bytes) -> StoredObject:
    """Write a file onto the version that the ledger knows, or that the target has by now.

    Raises ``LeaseLostError`` if it has another because a newer run has written it.
    """
    version = row.version
    for _ in range(WRITE_TRIES):
        try:
            return run.bucket.put(row.key, body, "application/json", if_version=version)
        except ObjectChangedError:  # noqa: PERF203 - it is rare
            run.held.renew()
            version = run.bucket.version(row.key)
    return run.bucket.put(row.key, body, "application/json", if_version=version)


def _record_of(
    completion: Completion, row: TaskRow, target: Target, stored: StoredObject | None
) -> Exported:
    return Exported(
        completion.task_id,
        completion.updated_at,
        row.digest,
        target.uri(row.key),
        len(completion.annotations),
        stored.version if stored else "",
        completion.size,
    )
