"""One pass over a connection's completions: write those that changed to the target.

Each is a JSON document, written whole, and only when it differs.
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
from ls_pipeline.engine.context import Took
from ls_pipeline.engine.detect import OVERLAP, earlier, select_changed
from ls_pipeline.resources.ledger.records import Exported

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Target

SAME_FOR = timedelta(minutes=2)
"""How long tasks that were touched lately, as many and the newest at the same time, pass for those
that were seen. It may overlook what shows up late; the listing after that does not."""

WRITERS = 16
BATCH = 200
"""Completions read, written and recorded at once."""


@dataclass
class Exporting:
    """What a pass over the completions did, for people to read."""

    looked_at: int = 0
    written: int = 0
    unchanged: int = 0
    emptied: int = 0
    """Tasks that lost their last annotation: their documents have none, or are deleted."""
    deleted: int = 0
    """Tasks that were deleted in Label Studio: tombstones, or their documents are deleted."""
    uncounted: list[int] = field(default_factory=list)
    """Tasks that were touched lately and are annotated, and Label Studio counts no annotation."""
    first_written: list[StoredObject] = field(default_factory=list)
    took: Took = field(default_factory=Took)


def export(  # noqa: PLR0913 - the parts that a pass puts together
    account: Account,
    lease: Lease,
    projects: Projects,
    target: Target,
    bucket: Bucket,
    progress: Progress,
    *,
    differs: bool = False,
) -> Exporting:
    """Write the completions that changed since the last pass; ``differs``: some surely did.

    Raises ``ExternalSystemError`` when the bucket or Label Studio fails; what was written till
    then is recorded, and the next pass takes the rest.
    """
    done = Exporting()
    # Before tasks are listed: an annotation in between has the sensor ask once more.
    annotations = projects.count_annotations()
    states, since, polled = _touched(account.polled(), projects, differs=differs)
    parts = account, lease, projects, target, bucket, progress, done
    others = account.annotated() - account.count_exported()[0]
    _write_changed(*parts, states, since)
    annotated = projects.count_annotated()
    unlike = annotated - account.count_exported()[0]
    if unlike:  # some were deleted, or overlooked, or are another connection's
        states = list(projects.task_states())
        _bury(account, lease, target, bucket, states, done)
        if unlike != others:
            _write_changed(*parts, states, "")
    account.record_exported(lease, target, polled, annotated, annotations)
    return done


def _write_changed(  # noqa: PLR0913, PLR0917 - as `export`
    account: Account,
    lease: Lease,
    projects: Projects,
    target: Target,
    bucket: Bucket,
    progress: Progress,
    done: Exporting,
    states: Sequence[TaskState],
    since: str,
) -> None:
    """Write the completions of the tasks that were touched since, where they changed."""
    uncounted = set(projects.uncounted_tasks(since)) if states else set()
    exported = account.exported([state.id for state in states])
    wanted = select_changed(states, exported, account.name, target, uncounted)
    done.looked_at += len(wanted)
    batches = (
        projects.completions(wanted[start : start + BATCH])
        for start in range(0, len(wanted), BATCH)
    )
    with ThreadPoolExecutor(WRITERS) as writers:
        seen = 0
        for found in _one_ahead(batches, done.took):
            with done.took.timing("writing"):
                write(account, lease, projects, target, bucket, writers, found, done)
            seen += len(found)
            progress.advance(account.name, "completions", seen, len(wanted))
    if uncounted:  # not only because they were being annotated
        uncounted.intersection_update(projects.uncounted_tasks(since))
        done.uncounted = sorted(uncounted.union(done.uncounted))


def _touched(
    last: RecentChanges, projects: Projects, *, differs: bool
) -> tuple[list[TaskState], str, RecentChanges]:
    """List the tasks that were touched since a time, and those that the next pass will see.

    A pass that follows at once would list again all that it looks back at; where that seems to be
    as the last one left it, none is listed, unless somebody saw that it is not.
    """
    upto = earlier(projects.app.now(), OVERLAP)
    lately = earlier(upto, SAME_FOR) < last.since <= upto
    if lately and not differs and projects.recent_changes(last.since) == last:
        return [], last.since, last
    # Where Label Studio's clock was set back meanwhile, no time says what was touched since.
    since = last.since if last.since <= upto else ""
    states = list(projects.task_states(since))
    return states, since, RecentChanges.among(states, upto)


def find_lost(account: Account, lease: Lease, target: Target, bucket: Bucket) -> list[str]:
    """Find the completions whose files are gone from the target; give the URIs of the files.

    They are forgotten, so that the next export writes them again.
    """
    root = folder(target.params.prefix)
    there: set[str] = set()
    for page in bucket.pages(root):
        there.update(one.key for one in page)
        if page[-1].key > f"{root}:":  # what follows the last digit
            break
    keys = ((one, completion_key(root, one), uri) for one, uri in account.exported_files())
    lost = {one: uri for one, key, uri in keys if uri == target.uri(key) and key not in there}
    if lost:
        account.forget_exports(lease, list(lost))
    return list(lost.values())


def _one_ahead(batches: Iterator[list[Completion]], took: Took) -> Iterator[list[Completion]]:
    """Have each batch read, in a thread, while the one before it is written."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while True:
            with took.timing("reading"):
                batch = coming.result()
            if batch is None:
                return
            coming = reader.submit(next, batches, None)
            yield batch


def _bury(
    account: Account,
    lease: Lease,
    target: Target,
    bucket: Bucket,
    states: Sequence[TaskState],
    done: Exporting,
) -> None:
    """Leave a tombstone, or nothing, of each exported task that is not among those there are."""
    living = account.living()
    for state in states:
        living.pop(state.id, None)
    for last in living.values():
        account.renew(lease)
        _bury_one(last.task_id, target, bucket)
        done.deleted += 1
        uri = target.uri(completion_key(target.params.prefix, last.task_id))
        dead = Exported(last.task_id, last.updated_at, TOMBSTONE, uri, 0)
        account.record_exports(lease, [dead])


def _bury_one(task_id: int, target: Target, bucket: Bucket) -> None:
    key = completion_key(target.params.prefix, task_id)
    if target.params.delete:
        bucket.delete(key)
    elif not target.params.filter.rejected_by(key):
        bucket.put(key, tombstone(task_id), "application/json")


def write(  # noqa: PLR0913, PLR0917 - as `export`
    account: Account,
    lease: Lease,
    projects: Projects,
    target: Target,
    bucket: Bucket,
    writers: Executor,
    found: Sequence[Completion],
    done: Exporting,
) -> None:
    """Write those of some completions that differ from what is in the target, and record it.

    Raises ``LeaseLostError`` when a newer run has taken over, with the target as it should be.
    """
    account.renew(lease)
    exported = account.exported([one.task_id for one in found])
    written = writers.map(lambda one: _write(one, target, bucket, exported.get(one.task_id)), found)
    records = _tally(found, written, target, done)
    moved = [one for one in records if not _same(one, exported.get(one.task_id))]
    try:
        account.record_exports(lease, records, moved=bool(moved))
    except LeaseLostError:
        _write_again([one.task_id for one in moved], projects, target, bucket)
        raise


def _write_again(
    task_ids: Sequence[int], projects: Projects, target: Target, bucket: Bucket
) -> None:
    """Put right what an overtaken run wrote, maybe over what the newer one had written before."""
    there = {one.task_id: one for one in projects.completions(task_ids)}
    for number in task_ids:
        if number in there:
            _write(there[number], target, bucket, None)
        else:
            _bury_one(number, target, bucket)


def _same(one: Exported, last: Exported | None) -> bool:
    return last is not None and (one.digest, one.uri) == (last.digest, last.uri)


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


def _tally(
    completions: Sequence[Completion],
    written: Iterable[StoredObject | None],
    target: Target,
    done: Exporting,
) -> list[Exported]:
    records = []
    for one, stored in zip(completions, written, strict=True):
        count = len(one.annotations)
        done.written += stored is not None
        done.unchanged += stored is None
        done.emptied += not count
        if stored and len(done.first_written) < 10:  # noqa: PLR2004
            done.first_written.append(stored)
        uri = target.uri(completion_key(target.params.prefix, one.task_id))
        records.append(Exported(one.task_id, one.updated_at, one.digest, uri, count))
    return records
