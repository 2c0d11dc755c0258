"""One pass over a source: find what changed, and load it as tasks, each exactly once.

First it settles what earlier passes left open; then it reads what differs, and has it imported
in batches, in the order of the keys.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.completions import canonical_json, sha256_hex
from ls_pipeline.domain.diff import WORK, Change, Difference, KnownObject, State
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    ExternalSystemError,
    LabelStudioError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.listing_ranges import BoundaryTracker, diff_ranges
from ls_pipeline.domain.tasks import (
    Origin,
    Rejection,
    Task,
    blob_task,
    data_keys,
    parse_tasks,
    size_rejection,
)
from ls_pipeline.engine.context import Took
from ls_pipeline.engine.import_queue import BATCH_ROWS, Batch, Importing, Row
from ls_pipeline.engine.projects import Projects
from ls_pipeline.engine.reconcile import Settling
from ls_pipeline.engine.recover import adopt
from ls_pipeline.resources.ledger.records import LoadedRow, Quarantined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ls_pipeline.domain.listing_ranges import RangeDiff
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Connection, Source

READERS = 16
READ_AHEAD = BATCH_ROWS
READ_AHEAD_BYTES = 64 * 2**20
"""Objects read at once, and what may wait for its turn: while one batch is imported, the next is
read."""

UNREADABLE_AT_MOST = 20
"""Objects that can't be read, before it is the bucket's error."""


@dataclass
class Loading:
    """What a pass over a source did, for people to read."""

    changes: Counter[Change] = field(default_factory=Counter)
    tasks_created: int = 0
    tasks_updated: int = 0
    tasks_deleted: int = 0
    tasks_kept: int = 0
    """Tasks that stay as they are though their object changed or is gone: a human has worked
    on them, or the source ignores changes."""
    listed: int = 0
    """Objects below the prefix."""
    filtered: int = 0
    """Of these, not known and left out by the filter."""
    pending: int = 0
    """Of these, not known and not read this time: they changed meanwhile, or went."""
    first_new: list[StoredObject] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Objects that could not be read this time, each a sentence."""
    notes: list[str] = field(default_factory=list)
    """What a person should know, though the pass went well."""
    took: Took = field(default_factory=Took)


def load(
    account: Account,
    lease: Lease,
    connection: Connection,
    bucket: Bucket,
    app: LabelingApp,
    progress: Progress,
) -> Loading:
    """Bring a connection's tasks up to date with its source.

    Raises ``ExternalSystemError`` when the bucket or Label Studio fails, after everything that
    could be done was done; whatever was loaded till then is recorded.
    """
    return _Loader(account, lease, connection, bucket, app, progress).run()


class _Loader:
    def __init__(
        self,
        account: Account,
        lease: Lease,
        connection: Connection,
        bucket: Bucket,
        app: LabelingApp,
        progress: Progress,
    ) -> None:
        if connection.source is None:
            raise ValueError(f"connection {connection.name!r} has no source")
        self.account, self.lease, self.connection = account, lease, connection
        self.source: Source = connection.source
        self.bucket, self.app, self.progress = bucket, app, progress
        self.done = Loading()
        self.batch = Batch()
        self.rows: dict[str, dict[int, LoadedRow]] = {}
        self.boundaries = BoundaryTracker()
        self.projects = Projects(account, app)

    def run(self) -> Loading:
        self._list_one_page()
        self.projects.find(self.lease, self.connection)
        self.project = self.projects.all()[-1]
        self._read_label_config()
        settling = self._settle_attempts()
        self._adopt_tasks()
        self._free_outlived()
        self.done.notes += self.projects.register_storage(
            self.bucket, self.source.params, self.projects.ids
        )
        self.importing = Importing(
            self.account,
            self.lease,
            self.connection,
            self.source,
            self.bucket,
            self.projects,
            self.project,
            settling,
            self.done.took,
            self.progress,
        )
        with ThreadPoolExecutor(READERS) as readers, self.importing:
            for difference, found in self._read_ahead(readers, self._work()):
                self._take(difference, found)
                if self.batch.full:
                    self._flush()
            self._flush()
            self.importing.wait()
        self.importing.blame_suspects()
        self.done.tasks_created = self.importing.created
        self.done.notes += self.importing.notes
        self._record_range_boundaries()
        if self.done.unread:
            raise ExternalSystemError(" ".join(self.done.unread))
        return self.done

    def _list_one_page(self) -> None:
        """Fail before anything is made in Label Studio when the bucket can't be listed."""
        next(self.bucket.pages(self.source.params.filter.folder), None)

    def _read_label_config(self) -> None:
        keys = data_keys(self.project.label_config)
        params = self.source.params
        if not keys:
            self.done.notes.append(
                f"The project has no label config yet; set one up at {self.project.url}"
                "/settings/labeling."
            )
        self.required = keys
        self.data_key = params.data_key or next(iter(keys), "")
        if params.use_blob_urls and not self.data_key:
            raise LabelStudioError(
                f"The label config of {self.project.url} shows no data; set data_key, or give the "
                'project a label config with a tag like <Image value="$image"/>.'
            )
        missing = [key for key in keys if key != self.data_key]
        if params.use_blob_urls and missing:
            raise LabelStudioError(
                f"The label config of {self.project.url} shows {', '.join(keys)}, and a blob fills "
                f"only {self.data_key!r}; set data_key to a key that it shows, or use JSON tasks."
            )

    @cached_property
    def _prediction_errors(self) -> Callable[[Mapping[str, Any]], list[str]]:
        return self.app.prediction_errors(self.project.label_config)

    # -- what is to be done ---------------------------------------------------------------

    def _work(self) -> Iterator[Difference]:
        select = self.source.params.filter
        ranges = self.bucket.ranges(
            select.folder, range_boundaries=self.account.range_boundaries(select)
        )
        known = partial(self.account.known_pages, select.folder)
        for range_diff in diff_ranges(known, ranges, select):
            self.boundaries.record(range_diff)
            self._count_alike(range_diff)
            for difference in range_diff.differences:
                self.done.changes[difference.change] += 1
                self._count(difference)
                if difference.change in WORK:
                    self.importing.unsettled.add(difference.key)
                    yield difference

    def _record_range_boundaries(self) -> None:
        """Remember how the bucket wrote what is now dealt with."""
        select = self.source.params.filter
        range_boundaries = self.boundaries.range_boundaries(self.importing.unsettled)
        if range_boundaries != self.account.range_boundaries(select):
            self.account.set_range_boundaries(self.lease, select, range_boundaries)

    def _count_alike(self, range_diff: RangeDiff) -> None:
        self.done.changes[Change.UNCHANGED] += range_diff.unchanged
        if range_diff.filtered:
            self.done.changes[Change.FILTERED] += range_diff.filtered
        self.done.filtered += range_diff.filtered
        self.done.listed += range_diff.unchanged + range_diff.filtered

    def _count(self, difference: Difference) -> None:
        was = difference.known
        unknown = was is None or was.state is State.REMOVED
        self.done.listed += difference.listed is not None
        if difference.change is Change.FILTERED:
            self.done.filtered += unknown
            if not unknown:  # it differs from what is known, and no pass will change that
                self.importing.unsettled.add(difference.key)

    def _read_ahead(
        self, readers: ThreadPoolExecutor, work: Iterator[Difference]
    ) -> Iterator[tuple[Difference, list[Task | Rejection]]]:
        """Read the objects of some differences in parallel; give them in their order."""
        waiting: deque[tuple[Difference, Future[list[Task | Rejection]]]] = deque()
        ahead = 0
        for difference in work:
            waiting.append((difference, self._begin(readers, difference)))
            ahead += self._bytes(difference)
            while len(waiting) > READ_AHEAD or ahead > READ_AHEAD_BYTES:
                ahead -= self._bytes(waiting[0][0])
                self._look_up(waiting)
                yield from self._result(*waiting.popleft())
        while waiting:
            self._look_up(waiting)
            yield from self._result(*waiting.popleft())

    def _look_up(self, waiting: Sequence[tuple[Difference, object]]) -> None:
        """Get the known rows of the first, and of all that wait with it, in one query."""
        if waiting[0][0].key not in self.rows:
            keys = [difference.key for difference, _ in waiting]
            self.rows = self.account.rows_of_all(keys)

    def _ignores(self, difference: Difference) -> bool:
        """Tell whether a replaced object stays unread; what is in quarantine is tried again."""
        was = difference.known
        if self.source.params.on_change != "ignore" or difference.change is not Change.REPLACED:
            return False
        return bool(was and was.version) and not self.account.is_quarantined(difference.key)

    def _bytes(self, difference: Difference) -> int:
        blob = self.source.params.use_blob_urls
        return 0 if blob or difference.listed is None else difference.listed.size

    def _begin(
        self, readers: ThreadPoolExecutor, difference: Difference
    ) -> Future[list[Task | Rejection]]:
        """Read an object in another thread; a blob is not read, and needs none."""
        if not self.source.params.use_blob_urls:
            return readers.submit(self._read, difference)
        known: Future[list[Task | Rejection]] = Future()
        known.set_result(self._read(difference))
        return known

    def _read(self, difference: Difference) -> list[Task | Rejection]:
        one = difference.listed
        if one is None or self._ignores(difference):
            return []
        if self.source.params.use_blob_urls:
            return [blob_task(self.bucket.uri(one.key), self.data_key)]
        if rejection := size_rejection(one.size):
            return [rejection]
        body = self.bucket.get(one.key, one.version)
        if len(body) != one.size:
            raise BucketUnavailableError(
                self.bucket.uri(one.key), f"{len(body)} of its {one.size} bytes came; try again."
            )
        return list(parse_tasks(one.key, body, self.required))

    def _result(
        self, difference: Difference, future: Future[list[Task | Rejection]]
    ) -> Iterator[tuple[Difference, list[Task | Rejection]]]:
        try:
            with self.done.took.timing("reading"):
                found = future.result()
            yield difference, found
        except (ObjectChangedError, ObjectNotFoundError) as error:
            self.done.notes.append(str(error))  # the next pass sees what it is by then
            self.done.pending += difference.change is Change.ADDED
        except ObjectRefusedError as error:
            yield difference, [Rejection(None, str(error))]
        except BucketAccessError as error:
            self.done.unread.append(str(error))
            if len(self.done.unread) >= UNREADABLE_AT_MOST:
                raise

    # -- one object -----------------------------------------------------------------------

    def _take(self, difference: Difference, found: list[Task | Rejection]) -> None:
        one = difference.listed
        if one is None:
            self._take_removal(difference)
            return
        if difference.change is Change.ADDED and len(self.done.first_new) < 10:  # noqa: PLR2004
            self.done.first_new.append(one)
        rows = self.rows[one.key]
        if self._ignores(difference):
            self.done.tasks_kept += len(rows)
            self.batch.finished.append(KnownObject(one.key, one.version, one.size, State.LOADED))
            return
        for item in found:
            if self.batch.full:  # of the rows before: after the last one, the object is finished
                self._flush()
            if isinstance(item, Rejection):
                self._reject(one, item)
            elif errors := self._errors(item):
                self._reject(one, Rejection(item.row, errors))
            else:
                self._take_task(one, item, rows.get(item.row))
        whole = any(isinstance(item, Rejection) and item.row is None for item in found)
        if not whole:
            here = {item.row for item in found}
            self._delete_tasks([row for row in rows.values() if row.row not in here])
        state = State.QUARANTINED if whole and not rows else State.LOADED
        self.batch.finished.append(KnownObject(one.key, one.version, one.size, state))

    def _take_removal(self, difference: Difference) -> None:
        was = difference.known
        if was is None:
            return
        rows = list(self.rows[was.key].values())
        deleted = self._delete_tasks(rows)
        if len(deleted) == len(rows):
            self.batch.forgotten.append(was.key)
        else:
            gone = KnownObject(was.key, was.version, was.size, State.REMOVED)
            self.batch.finished.append(gone)

    def _delete_tasks(self, rows: Sequence[LoadedRow]) -> list[LoadedRow]:
        """Delete the tasks of rows that are gone, if the source says so; give those deleted.

        A task that a human has worked on stays, and is reported.
        """
        if self.source.params.on_delete != "delete" or not rows:
            return []
        self.importing.wait()
        deleted = []
        for row, now in self.projects.tasks_of(rows, self.bucket):
            if now and now.has_human_work:
                self._keep(row, "is gone")
                continue
            if now:
                self.account.renew(self.lease)
                self.app.delete_task(row.task_id)
                self.done.tasks_deleted += 1
            deleted.append(row)
        self.batch.dropped += deleted
        return deleted

    def _keep(self, row: LoadedRow, what: str) -> None:
        self.done.tasks_kept += 1
        self.done.notes.append(
            f"{self.bucket.uri(row.key)} {what}, and somebody works on task {row.task_id}: "
            "the task was left as it is."
        )

    def _reject(self, one: StoredObject, rejection: Rejection) -> None:
        reading = self.source.params.reading
        self.batch.rejections.append(
            Quarantined(one.key, rejection.row, one.version, rejection.reason, reading)
        )

    def _errors(self, task: Task) -> str:
        """Check predictions, which Label Studio would drop in silence when they are bad."""
        if not task.predictions:
            return ""
        check = self._prediction_errors
        found = [error for prediction in task.predictions for error in check(prediction)]
        return f"A prediction does not fit the label config: {found[0]}" if found else ""

    def _take_task(self, one: StoredObject, task: Task, before: LoadedRow | None) -> None:
        origin = Origin(self.connection.name, self.bucket.uri(one.key), one.version, task.row)
        body = task.as_import(origin)
        written = canonical_json([task.data, task.meta, task.annotations, task.predictions])
        content, size = sha256_hex(written), len(written)
        row = LoadedRow(one.key, task.row, one.version, content, before.task_id if before else 0)
        if before is None:
            self.batch.add(Row(row, body, size))
        elif before.version == one.version or before.digest == content:
            self.batch.passed.append(row)
        elif self.source.params.on_change == "ignore":
            self.done.tasks_kept += 1
            self.batch.passed.append(row)
        elif self.source.params.on_change == "new_task":
            self.batch.add(Row(replace(row, task_id=0), body, size))
        else:
            self._update(Row(row, body, size))

    def _update(self, new: Row) -> None:
        """Bring the task of a replaced object up to date, unless a human has worked on it."""
        self.importing.wait()
        row = new.loaded
        ((_, now),) = self.projects.tasks_of([row], self.bucket)
        if now is None:  # deleted in Label Studio: this version is a new task
            self.batch.add(new)
            return
        if now.has_human_work:
            self._keep(row, "changed")
        else:
            self.account.renew(self.lease)
            body = {"data": new.body["data"], "meta": new.body["meta"]}
            self.app.update_task(row.task_id, body)
            self.done.tasks_updated += 1
        self.batch.passed.append(row)

    def _flush(self) -> None:
        """Have what is gathered imported."""
        batch, self.batch = self.batch, Batch()
        self.importing.put(batch)

    # -- what earlier passes left ---------------------------------------------------------

    def _settle_attempts(self) -> Settling:
        """Find out what became of imports that a crash or a lost reply left open."""
        one_task_per_row = self.source.params.one_task_per_row
        settling = Settling(
            self.account, self.lease, self.bucket, self.projects, one_task_per_row=one_task_per_row
        )
        settling.settle()
        self.done.notes += settling.notes
        if settling.doubled:
            self.done.notes.append(
                f"{settling.doubled} tasks had arrived twice, after a reply was lost: of "
                "each two one was deleted."
            )
        return settling

    def _adopt_tasks(self) -> None:
        """Take up tasks of ours that the ledger doesn't know: it was lost, or is an old copy."""
        params = self.source.params
        if params.tasks_per_project and self.project.tasks >= params.tasks_per_project:
            self.projects.take_up_further(self.lease, self.connection)
            self.project = self.projects.all()[-1]
        several = not params.one_task_per_row
        taken = adopt(self.account, self.lease, self.bucket, self.projects, several=several)
        if taken:
            self.done.notes.append(f"{taken} tasks of an earlier ledger were taken up.")

    def _free_outlived(self) -> None:
        """Try what is in quarantine again, where it would now be read otherwise."""
        keys = self.account.outlived_quarantine(self.source.params.reading)
        if keys:
            self.account.free(self.lease, keys)
