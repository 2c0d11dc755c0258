"""A run over a connection's completions: write those that changed to the target.

Each is a JSON document, written whole, and only if it differs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState
from ls_pipeline.domain.errors import LeaseLostError
from ls_pipeline.domain.exports import (
    TOMBSTONE,
    completion_key,
    json_document,
    tombstone,
)
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.detect import OVERLAP, earlier, select_changed
from ls_pipeline.resources.ledger.records import Exported

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext, Timings
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.model import Target

SAME_FOR = timedelta(minutes=2)
"""How long an equal count and newest time of recently touched tasks count as "nothing changed".

A change that shows up late can be missed in that time; the next listing finds it.
"""

WRITERS = 16
BATCH = 200
"""Completions read, written and recorded at once."""

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


def export_completions(run: RunContext, *, has_changed: bool = False) -> ExportResult:
    """Write the completions that changed since the last run.

    ``has_changed`` says that some surely did: then Label Studio's tasks are listed in any case.

    Raises ``ExternalSystemError`` if the bucket or Label Studio fails. What was written before is
    recorded, and the next run writes the rest.
    """
    result, exports, projects = ExportResult(), run.held.exports, run.projects
    projects.find()
    # Before the tasks are listed: an annotation in between makes the sensor ask once more.
    annotations = projects.count_annotations()
    states, since, polled = _touched(run, exports.polled(), has_changed=has_changed)
    others = exports.annotated() - exports.count()[0]
    _write_changed(run, states, since, result)
    annotated = projects.count_annotated()
    difference = annotated - exports.count()[0]
    if difference:  # some were deleted, or missed, or are another connection's
        states = list(projects.task_states())
        _write_tombstones(run, states, result)
        if difference != others:
            _write_changed(run, states, "", result)
    exports.record_polled(run.target, polled, annotated, annotations)
    return result


def find_missing_files(run: RunContext) -> list[str]:
    """Return the URIs of the completions whose files are gone from the target.

    The ledger forgets them, so that the next export writes them again.
    """
    target = run.target
    root = folder(target.params.prefix)
    existing: set[str] = set()
    for page in run.bucket.pages(root):
        existing.update(stored.key for stored in page)
        if page[-1].key > f"{root}:":  # what follows the last digit
            break
    missing: dict[int, str] = {}
    for task_id, uri in run.held.exports.uris():
        key = completion_key(root, task_id)
        if uri == target.uri(key) and key not in existing:
            missing[task_id] = uri
    if missing:
        run.held.exports.forget(list(missing))
    return list(missing.values())


def write_completions(
    run: RunContext, writers: Executor, completions: Sequence[Completion], result: ExportResult
) -> None:
    """Write the completions that differ from what is in the target, and record them.

    Raises ``LeaseLostError`` if a newer run has taken over; the target is then as it should be.
    """
    target, bucket, exports = run.target, run.bucket, run.held.exports
    run.held.renew()
    last = exports.last_written([completion.task_id for completion in completions])
    written = writers.map(
        lambda completion: _write(completion, target, bucket, last.get(completion.task_id)),
        completions,
    )
    records = _records(completions, written, target, result)
    changed = [record for record in records if _differs(record, last.get(record.task_id))]
    try:
        exports.record(records, changed=bool(changed))
    except LeaseLostError:
        _restore(run, [record.task_id for record in changed])
        raise


def _write_changed(
    run: RunContext, states: Sequence[TaskState], since: str, result: ExportResult
) -> None:
    """Write the completions of tasks that were touched since a time, if they changed."""
    projects = run.projects
    uncounted = set(projects.uncounted_tasks(since)) if states else set()
    last = run.held.exports.last_written([state.id for state in states])
    selected = select_changed(states, last, run.name, run.target, uncounted)
    result.selected += len(selected)
    batches = (
        projects.completions(selected[start : start + BATCH])
        for start in range(0, len(selected), BATCH)
    )
    done = 0
    with ThreadPoolExecutor(WRITERS) as writers:
        for completions in _read_ahead(batches, run.timings):
            with run.timings.timing("writing"):
                write_completions(run, writers, completions, result)
            done += len(completions)
            run.advance("completions", done, len(selected))
    if uncounted:  # without those that were only being annotated
        uncounted.intersection_update(projects.uncounted_tasks(since))
        result.uncounted = sorted(uncounted.union(result.uncounted))


def _touched(
    run: RunContext, last: RecentChanges, *, has_changed: bool
) -> tuple[list[TaskState], str, RecentChanges]:
    """Return the tasks touched since a time, that time, and what the next run compares with.

    A run that follows soon would list again everything that its overlap covers. If that looks as
    the last run left it, nothing is listed, unless something surely changed.
    """
    through = earlier(run.app.now(), OVERLAP)
    is_recent = earlier(through, SAME_FOR) < last.since <= through
    if is_recent and not has_changed and run.projects.recent_changes(last.since) == last:
        return [], last.since, last
    # If Label Studio's clock was set back, no time says what was touched since.
    since = last.since if last.since <= through else ""
    states = list(run.projects.task_states(since))
    return states, since, RecentChanges.among(states, through)


def _read_ahead(
    batches: Iterator[list[Completion]], timings: Timings
) -> Iterator[list[Completion]]:
    """Read each batch in a thread while the one before it is written."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while True:
            with timings.timing("reading"):
                batch = coming.result()
            if batch is None:
                return
            coming = reader.submit(next, batches, None)
            yield batch


def _write_tombstones(run: RunContext, states: Sequence[TaskState], result: ExportResult) -> None:
    """Replace the documents of tasks that no longer exist by tombstones, or delete them."""
    living, target = run.held.exports.living(), run.target
    for state in states:
        living.pop(state.id, None)
    for last in living.values():
        run.held.renew()
        _write_tombstone(last.task_id, target, run.bucket)
        result.deleted += 1
        uri = target.uri(completion_key(target.params.prefix, last.task_id))
        run.held.exports.record([Exported(last.task_id, last.updated_at, TOMBSTONE, uri, 0)])


def _write_tombstone(task_id: int, target: Target, bucket: Bucket) -> None:
    key = completion_key(target.params.prefix, task_id)
    if target.params.delete:
        bucket.delete(key)
    elif not target.params.filter.rejected_by(key):
        bucket.put(key, tombstone(task_id), "application/json")


def _restore(run: RunContext, task_ids: Sequence[int]) -> None:
    """Write again what an overtaken run wrote, maybe over what the newer run had written before."""
    completions = {task.task_id: task for task in run.projects.completions(task_ids)}
    for task_id in task_ids:
        if task_id in completions:
            _write(completions[task_id], run.target, run.bucket, None)
        else:
            _write_tombstone(task_id, run.target, run.bucket)


def _differs(record: Exported, last: Exported | None) -> bool:
    return last is None or (record.digest, record.uri) != (last.digest, last.uri)


def _write(
    completion: Completion, target: Target, bucket: Bucket, last: Exported | None
) -> StoredObject | None:
    """Write a completion, unless the target has it already."""
    key = completion_key(target.params.prefix, completion.task_id)
    if target.params.delete and not completion.annotations:
        bucket.delete(key)
        return None
    if last and (last.digest, last.uri) == (completion.digest, target.uri(key)):
        return None
    return bucket.put(key, json_document(completion), "application/json")


def _records(
    completions: Sequence[Completion],
    written: Iterable[StoredObject | None],
    target: Target,
    result: ExportResult,
) -> list[Exported]:
    """Return what the ledger records of written completions, and count them in the result."""
    records = []
    for completion, stored in zip(completions, written, strict=True):
        annotations = len(completion.annotations)
        result.written += stored is not None
        result.unchanged += stored is None
        result.emptied += not annotations
        if stored and len(result.first_written) < FIRST_WRITTEN:
            result.first_written.append(stored)
        task_id = completion.task_id
        uri = target.uri(completion_key(target.params.prefix, task_id))
        records.append(
            Exported(task_id, completion.updated_at, completion.digest, uri, annotations)
        )
    return records
