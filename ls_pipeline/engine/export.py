"""A run over a connection's completions: write those that changed to the target.

Each is a JSON document, written whole, and only if it differs.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from ls_pipeline.domain.batches import batches, sized_batches
from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState, belongs_to
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    ExternalSystemError,
    IdentityError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoredSettingsError,
)
from ls_pipeline.domain.exports import (
    LEFT_ALONE,
    TOMBSTONE,
    completion_key,
    is_completion_key,
    json_document,
    tombstone,
)
from ls_pipeline.domain.moments import earlier
from ls_pipeline.domain.notes import Notes
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.engine.detect import OVERLAP, select_changed
from ls_pipeline.engine.guard import check_mass_change
from ls_pipeline.resources.ledger.records import Exported, Intent, Kind, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor
    from typing import TypeAlias

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext, Timings
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.settings.model import Target

    Written: TypeAlias = StoredObject | BucketAccessError | None
    """The file that was written, if any, or why the target refused it."""

SAME_FOR = timedelta(minutes=2)
"""How long an equal count and newest time of recently touched tasks count as "nothing changed".

A change that shows up late can be missed in that time; the next listing finds it.
"""

WRITERS = 16
BATCH = 200
"""Tombstones written and recorded at once."""

WRITE_BYTES = 8 * 2**20
"""Bytes of completions that are written, or read back, at the same time."""

WRITE_TRIES = 3
"""How often a file is written onto a newer version, before it is an error."""

LARGEST_COMPLETION = 256 * 2**20
"""Bytes; a larger file in the target belongs to another program."""

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
    refused: dict[str, BucketAccessError] = field(default_factory=dict)
    """URIs of files that could not be written, and why."""

    def count(self, completions: Sequence[Completion], stored: Sequence[Written]) -> None:
        """Count completions, each with its file if it was written.

        Raises ``BucketAccessError`` if so many files were refused that it is the bucket's fault.
        """
        for completion, file in zip(completions, stored, strict=True):
            if isinstance(file, BucketAccessError):
                self.refuse(file)
                continue
            self.written += file is not None
            self.unchanged += file is None
            self.emptied += not completion.annotations
            if file and len(self.first_written) < FIRST_WRITTEN:
                self.first_written.append(file)

    def refuse(self, error: BucketAccessError) -> None:
        """Count a file that the target refused. Raises the error if they are too many."""
        self.refused[error.uri] = error
        if len(self.refused) >= REFUSED_AT_MOST:
            raise error


def export_completions(run: RunContext, *, has_changed: bool = False) -> ExportResult:
    """Write the completions that changed since the last run.

    ``has_changed`` says that some surely did: then Label Studio's tasks are listed in any case.

    Raises ``ExternalSystemError`` if the bucket or Label Studio fails. What was written before is
    recorded, and the next run writes the rest. Raises ``IdentityError`` before it changes anything,
    and ``MassChangeError`` before it takes away most completions.
    """
    run.projects.find()
    run.target_identity.check()
    notes = settle_files(run)
    result = _Exporter(run).export(has_changed=has_changed)
    result.notes = notes
    return result


def finish_files(run: RunContext) -> list[str]:
    """Finish the files that runs began to write; return what a person should know, in sentences.

    Raises as `export_completions` does, also if the bucket of an earlier target fails.
    """
    target, notes = run.connection.target, Notes()
    for intent in run.held.intents.open(Kind.WRITE):
        if intent.rows and not (target and _is_here(target, intent)):
            notes += _finish_elsewhere(run, intent)
    if target:
        run.target_identity.check()
        notes += settle_files(run)
        exporter = _Exporter(run)
        exporter.finish(run.held.exports.unfinished())
        exporter.take_away()
    return notes


def find_missing_files(run: RunContext) -> list[str]:
    """Return the URIs of the completions whose files are gone from the target.

    The ledger forgets them, so that the next export writes them again.
    """
    target = run.target
    root = folder(target.params.prefix)
    existing = {stored.key for stored in _completion_files(run.bucket, root)}
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

    A file that the target refuses stays unfinished, and the others are written. Raises
    ``LeaseLostError`` if a newer run has taken over; the target is then as it should be.
    """
    exports, target = run.held.exports, run.target
    last = exports.last_written([completion.task_id for completion in completions])
    files = [_file_row(target, each.task_id, each.digest, last) for each in completions]
    rows = {row.task_id: row for row in files if _differs(row, target, last.get(row.task_id))}
    intent = begin_files(run, list(rows.values())) if rows else None

    def write(completion: Completion) -> Written:
        row = rows.get(completion.task_id)
        return _or_refusal(lambda: _write(run, completion, row)) if row else None

    together = sized_batches(completions, attrgetter("size"), WRITE_BYTES)
    stored = [file for batch in together for file in writers.map(write, batch)]
    records = [
        _record_of(completion, rows[completion.task_id], target, file)
        if completion.task_id in rows
        else replace(last[completion.task_id], updated_at=completion.updated_at)
        for completion, file in zip(completions, stored, strict=True)
        if not isinstance(file, BucketAccessError)
    ]
    exports.record(records, changed=bool(rows), closing=intent)
    result.count(completions, stored)


def settle_files(run: RunContext) -> Notes:
    """Settle what earlier runs began to write; return what a person should know, in sentences.

    Afterwards each file that is not as it was recorded counts as unfinished.
    """
    notes = Notes()
    if not run.held.binding.state().files_verified:
        verify_files(run)
    for intent in run.held.intents.open(Kind.WRITE):
        if not intent.rows:  # a snapshot, which has its own folder
            run.held.intents.close(intent)
        elif not _is_here(run.target, intent):
            notes += _settle_elsewhere(run, intent)
        else:
            _reopen_changed(run, intent)
            run.held.intents.keep_open(intent)
    return notes


def verify_files(run: RunContext) -> None:
    """Trust no record of the target's files; take over those of ours that no record names.

    A target that was emptied or restored, or a ledger that was, makes this necessary.
    """
    root, exports = folder(run.target.params.prefix), run.held.exports
    known = exports.task_ids_written()
    unknown = (
        stored
        for stored in _completion_files(run.bucket, root)
        if _task_id(stored.key) not in known
    )
    adopted = []
    with ThreadPoolExecutor(WRITERS) as readers:
        for batch in sized_batches(unknown, attrgetter("size"), WRITE_BYTES):
            adopted += [found for found in readers.map(partial(_adopt, run), batch) if found]
    exports.reopen_all(adopted)
    run.held.binding.verify_files()


def _completion_files(bucket: Bucket, root: str) -> Iterator[StoredObject]:
    """List the files in a folder that may be completions."""
    for page in bucket.pages(root):
        yield from (stored for stored in page if is_completion_key(root, stored.key))
        if page[-1].key > f"{root}:":  # what follows the last digit
            return


def _task_id(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))


def _adopt(run: RunContext, stored: StoredObject) -> Exported | None:
    """Return the record of a file that a connection's earlier ledger wrote."""
    if stored.size > LARGEST_COMPLETION:
        return None
    try:
        document = json.loads(run.bucket.get(stored.key, stored.version))
        annotations = len(document["annotations"])
        origin, project_id = parse_origin(document["meta"]), document["project"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    except (ObjectNotFoundError, ObjectChangedError):
        return None
    if project_id not in run.projects.ids or not belongs_to(run.name, origin):
        return None
    uri = run.target.uri(stored.key)
    return Exported(_task_id(stored.key), "", "", uri, annotations, stored.version)


def _is_here(target: Target, intent: Intent) -> bool:
    row = intent.rows[0]
    here = target.root, completion_key(target.params.prefix, row.task_id)
    return (intent.root, row.key) == here


def _settle_elsewhere(run: RunContext, intent: Intent) -> list[str]:
    """Finish files of an earlier target, if its bucket lets us."""
    try:
        return _finish_elsewhere(run, intent)
    except (BucketError, IdentityError) as error:
        if error.transient:
            run.held.intents.keep_open(intent)
        else:
            run.held.intents.close(intent)
        return [_outdated(intent, str(error))]


def _finish_elsewhere(run: RunContext, intent: Intent) -> list[str]:
    """Finish files of an earlier target, which the settings of that time describe."""
    notes = []
    try:
        revision = run.held.settings.at(intent.revision)
    except (LookupError, StoredSettingsError) as error:  # a restored ledger may lack them
        notes.append(_outdated(intent, str(error)))
    else:
        _finish_as_of(run, revision, intent)
    run.held.intents.close(intent)
    return notes


def _finish_as_of(run: RunContext, revision: Revision, intent: Intent) -> None:
    target = revision.connection.target
    if target and run.open_bucket and _is_here(target, intent):
        exporter = _Exporter(replace(run, revision=revision, bucket=run.open_bucket(target)))
        exporter.finish([row.task_id for row in intent.rows])
        exporter.take_away()


def _outdated(intent: Intent, reason: str) -> str:
    return f"{len(intent.rows)} files in {intent.root} may be older than their labels: {reason}"


def _reopen_changed(run: RunContext, intent: Intent) -> None:
    """Find the files that a late request has changed after a later run wrote them."""
    last = run.held.exports.last_written([row.task_id for row in intent.rows])
    written = [
        record
        for record in last.values()
        if record.digest not in {"", LEFT_ALONE} and record.uri.startswith(intent.root)
    ]
    keys = [record.uri[len(intent.root) :] for record in written]
    with ThreadPoolExecutor(WRITERS) as readers:
        versions = list(readers.map(run.bucket.version, keys))
    changed = [
        record.task_id
        for record, version in zip(written, versions, strict=True)
        if record.version != version
    ]
    if changed:
        run.held.exports.reopen(changed)


class _Exporter:
    """One run: it writes what there is to write, and at last takes away what is gone."""

    def __init__(self, run: RunContext) -> None:
        self.run, self.projects = run, run.projects
        self.exports, self.target = run.held.exports, run.target
        self.result = ExportResult()
        self.emptied: set[int] = set()
        """Tasks that have lost their last annotation."""
        self.deleted: set[int] = set()
        """Tasks that do not exist any more."""

    def export(self, *, has_changed: bool) -> ExportResult:
        others = self.exports.annotated() - self.exports.count()[0]
        self.finish(self.exports.unfinished())
        # Before the tasks are listed: an annotation in between makes the sensor ask once more.
        annotations = self.projects.count_annotations()
        states, since, polled = _touched(self.run, self.exports.polled(), has_changed=has_changed)
        self._write_changed(states, since)
        annotated = self.projects.count_annotated()
        difference = annotated - self.exports.count()[0] + self._count_to_take_away()
        if difference:  # some were deleted, or missed, or are another connection's
            states = list(self.projects.task_states())
            self.deleted |= self.exports.living().keys() - {state.id for state in states}
            if difference != others:
                self._write_changed(states, "")
        self.take_away()
        if self.result.refused:  # the next run lists everything again
            raise ExternalSystemError(" ".join(map(str, self.result.refused.values())))
        self.exports.record_polled(self.target, polled, annotated, annotations)
        return self.result

    def finish(self, unfinished: Sequence[int]) -> None:
        """Write files that an earlier run began to write, whatever they hold."""
        params = self.target.params
        ids = [
            task_id
            for task_id in unfinished
            if not params.filter.rejected_by(completion_key(params.prefix, task_id))
        ]
        found = set[int]()
        with ThreadPoolExecutor(WRITERS) as writers:
            for completions in self.projects.pages(ids):
                self._write(writers, completions)
                found |= {completion.task_id for completion in completions}
        self.deleted |= set(ids) - found

    def _write_changed(self, states: Sequence[TaskState], since: str) -> None:
        """Write the completions of tasks that were touched since a time, if they changed."""
        run, projects, result = self.run, self.projects, self.result
        uncounted = set(projects.uncounted_tasks(since)) if states else set()
        last = self.exports.last_written([state.id for state in states])
        selected = select_changed(states, last, run.name, self.target, uncounted)
        selected = [task_id for task_id in selected if task_id not in self.emptied]
        result.selected += len(selected)
        done = 0
        with ThreadPoolExecutor(WRITERS) as writers:
            for completions in _read_ahead(projects.pages(selected), run.timings):
                with run.timings.timing("writing"):
                    self._write(writers, completions)
                done += len(completions)
                run.advance("completions", done, len(selected))
        if uncounted:  # without those that were only being annotated
            uncounted.intersection_update(projects.uncounted_tasks(since))
            result.uncounted = sorted(uncounted.union(result.uncounted))

    def _write(self, writers: Executor, completions: Sequence[Completion]) -> None:
        """Write completions, except those to take away at last."""
        emptied = {completion.task_id for completion in completions if not completion.annotations}
        self.emptied |= emptied
        filled = [completion for completion in completions if completion.annotations]
        write_completions(self.run, writers, filled, self.result)

    def _count_to_take_away(self) -> int:
        last = self.exports.last_written(list(self.emptied | self.deleted))
        return sum(exported.annotations > 0 for exported in last.values())

    def take_away(self) -> None:
        """Empty the files of tasks without annotations, and bury those of deleted tasks.

        Raises ``MassChangeError`` before the first if they are too many.
        """
        total = self.exports.count()[0]
        check_mass_change(self.run, "files", self._count_to_take_away(), total)
        last = self.exports.last_written(list(self.emptied | self.deleted))
        emptied, found = sorted(self.emptied & last.keys()), set[int]()
        with ThreadPoolExecutor(WRITERS) as writers:
            for completions in self.projects.pages(emptied):
                write_completions(self.run, writers, completions, self.result)
                found |= {completion.task_id for completion in completions}
        self.deleted |= set(emptied) - found
        for ids in batches(sorted(self.deleted & last.keys()), BATCH):
            self._bury([last[task_id] for task_id in ids])

    def _bury(self, gone: Sequence[Exported]) -> None:
        """Replace the files of tasks that no longer exist by tombstones, or delete them."""
        last = {exported.task_id: exported for exported in gone}
        rows = [_file_row(self.target, task_id, TOMBSTONE, last) for task_id in last]
        intent, records, refused = begin_files(self.run, rows), [], []
        for row in rows:
            self.run.held.renew()
            stored = _or_refusal(partial(_write_tombstone, self.run, row))
            if isinstance(stored, BucketAccessError):
                refused.append(stored)
                continue
            records.append(
                Exported(
                    row.task_id,
                    last[row.task_id].updated_at,
                    TOMBSTONE,
                    self.target.uri(row.key),
                    0,
                    stored.version if stored else "",
                )
            )
        self.exports.record(records, closing=intent)
        self.result.deleted += len(records)
        for error in refused:
            self.result.refuse(error)


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


def _read_ahead(pages: Iterator[list[Completion]], timings: Timings) -> Iterator[list[Completion]]:
    """Read each page in a thread while the one before it is written."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, pages, None)
        while True:
            with timings.timing("reading"):
                page = coming.result()
            if page is None:
                return
            coming = reader.submit(next, pages, None)
            yield page
            del page  # before the next is waited for


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
    except BucketAccessError as error:
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
