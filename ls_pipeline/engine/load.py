"""A run over a source: find what changed, and load it as tasks, each exactly once.

It first settles what earlier runs left open. Then it reads what differs, and imports it in batches
in the order of the keys.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from ls_pipeline.domain.annotators import (
    annotator_name,
    with_known_annotators,
)
from ls_pipeline.domain.completions import canonical_json, sha256_hex
from ls_pipeline.domain.diff import WORK, Change, Difference, KnownObject, State
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    ExternalSystemError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
    SettingsMismatchError,
)
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.listing_ranges import BoundaryTracker, diff_ranges
from ls_pipeline.domain.notes import Notes, quoted, shorten
from ls_pipeline.domain.predictions import record_of
from ls_pipeline.domain.row_matching import Identity, identity_of
from ls_pipeline.domain.tasks import (
    Origin,
    Rejection,
    Task,
)
from ls_pipeline.engine.effects import NewTask
from ls_pipeline.engine.import_queue import (
    Batch,
    ImportQueue,
)
from ls_pipeline.engine.load_notes import LoadNotes, note_of_unlisted
from ls_pipeline.engine.manifest import manifest_of, read_as, read_by
from ls_pipeline.engine.object_rows import Content, Rejections, Remarks, content_of
from ls_pipeline.engine.read_ahead import READERS, ReadAhead, Ready
from ls_pipeline.engine.reading import ObjectReader
from ls_pipeline.engine.reconcile import reconcile_tasks
from ls_pipeline.engine.removals import Removals
from ls_pipeline.engine.row_numbers import RowNumbers
from ls_pipeline.engine.unread import UNREADABLE_AT_MOST, UnreadObjects
from ls_pipeline.resources.ledger.records import Kind, Quarantined, ReadSidecar, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ls_pipeline.domain.listing_ranges import RangeDiff
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext


FIRST_NEW = 10
"""New objects that a result shows."""


@dataclass
class LoadResult:
    """What a run over a source did, for people to read."""

    changes: Counter[Change] = field(default_factory=Counter)
    tasks_created: int = 0
    tasks_updated: int = 0
    tasks_deleted: int = 0
    tasks_kept: int = 0
    """Tasks that stay as they are though their object changed or is gone: a person has worked on
    them, or the source ignores changes."""
    listed: int = 0
    """Objects below the prefix."""
    filtered: int = 0
    """Objects below the prefix that are not known and that the filter leaves out."""
    pending: int = 0
    """Objects that are not known and were not read this time: they changed or went in between."""
    first_new: list[StoredObject] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Objects that could not be read this time, each a sentence."""
    notes: Notes = field(default_factory=Notes)
    """What a person should know although the run succeeded."""


def load_tasks(run: RunContext) -> LoadResult:
    """Bring a connection's tasks up to date with its source.

    Raises ``ExternalSystemError`` if the bucket or Label Studio fails, after everything that could
    be done was done. What was loaded before is recorded. Raises ``SettingsMismatchError`` if the
    params don't fit the project's label config.
    """
    return _Loader(run).load()


class _Loader:
    def __init__(self, run: RunContext) -> None:
        self.run, self.held = run, run.held
        self.bucket, self.app, self.projects = run.bucket, run.app, run.projects
        self.params = run.source.params
        self.row_key = "" if self.params.fills_one_key else self.params.row_key
        self.result = LoadResult()
        self.batch = Batch()
        self.removals = Removals(run)
        self.boundaries = BoundaryTracker()
        self.compared_all = True
        self.remarks = Remarks()
        self.notes = LoadNotes(run)
        self.is_again = False

    def load(self) -> LoadResult:
        self._list_one_page()
        self.manifest = manifest_of(self.bucket, self.params)
        self.select = replace(self.params.filter, manifest=self.manifest)
        self.projects.find()
        reconciler = reconcile_tasks(self.run)
        self.result.notes += reconciler.notes
        self.project = self.projects.newest
        self._read_label_config()
        self._release_retryable()
        self._follow_sidecar_param()
        self._find_begun()
        self.queue = ImportQueue(self.run, reconciler)
        with ThreadPoolExecutor(READERS) as readers, self.queue:
            self.queue.storages = readers.submit(
                self.projects.register_storages,
                self.bucket,
                self.run.source,
                self.projects.ids,
            )
            self._load_differences(readers)
            if self.queue.outdated:
                self._begin_again()
                self._load_differences(readers)
            self.queue.wait_for_storages()
        self.projects.claim()
        self._count_queue()
        self.result.notes += self.notes.sentences()
        if self.manifest and self.compared_all:
            self.result.notes += note_of_unlisted(self.manifest)
        if self.result.unread:
            raise ExternalSystemError(" ".join(self.result.unread))
        return self.result

    def _load_differences(self, readers: ThreadPoolExecutor) -> None:
        """Load what differs, delete the tasks of what is gone, and record how far that came."""
        try:
            self._take_all(readers)
        except BucketUnavailableError:
            self._finish_batch()  # what was read until then
            raise
        self._quarantine_unread()
        self._finish_batch()
        self.queue.blame_suspects()
        self._remove()
        self._record_range_boundaries()

    def _take_all(self, readers: ThreadPoolExecutor) -> None:
        for difference, future in self.ahead.read(readers, self._work()):
            content = self._content(difference, future)
            if content is None:
                continue
            with closing(content):  # not later: the next one is read by then
                self.held.check_time()
                self._take(difference, content)
            if self.batch.is_full:
                self._flush()

    def _finish_batch(self) -> None:
        self._flush()
        self.queue.wait()

    def _quarantine_unread(self) -> None:
        for item, known in self.unread.take():
            self.batch.update.quarantined.append(item)
            self.batch.update.finished.append(known)
            self.result.notes.append(item.reason)

    def _begin_again(self) -> None:
        """Compare a second time, for objects whose sidecars came after them in the listing."""
        self.is_again = True
        self.boundaries, self.removals = BoundaryTracker(), Removals(self.run)
        self._find_begun()

    def _count_queue(self) -> None:
        self.result.tasks_created = self.queue.created
        self.result.tasks_updated = self.queue.updated
        self.result.tasks_kept += self.queue.kept
        self.result.notes += self.queue.notes
        self.result.notes += self.queue.kept_notes

    def _follow_sidecar_param(self) -> None:
        """Have objects read again if they now have other sidecars, or lines of the manifest."""
        manifest, sidecars = self.manifest, self.held.sidecars
        now, before = read_as(self.params, manifest), sidecars.read_as()
        if before == now:
            return
        if manifest and manifest.error:
            self.result.unread.append(manifest.error)
            now = read_by(manifest.key)  # so that the next run says it, too
        if manifest and before.startswith(read_by(manifest.key)):
            sidecars.read_changed_again(now, lambda key: manifest.sidecar(key).version)
        else:
            sidecars.read_all_again(now)

    def _list_one_page(self) -> None:
        """Fail before anything is made in Label Studio if the bucket can't be listed."""
        next(self.bucket.pages(self.params.filter.folder), None)

    def _read_label_config(self) -> None:
        self.label_config = LabelConfig(self.project.label_config)
        keys = self.label_config.keys
        if self.label_config.is_empty:
            self.result.notes.append(
                f"The project has no label config yet; set one up at {self.project.url}"
                "/settings/labeling."
            )
        name = self.params.data_key or next(iter(keys), "")
        self.reader = ObjectReader(
            self.run, self.select, self.manifest, self.label_config, self.label_config.key(name)
        )
        self.ahead = ReadAhead(self.reader, self.held.objects)
        fills_one = self.params.fills_one_key
        noun = "blob" if self.params.use_blob_urls else "text"
        if fills_one and not name:
            raise SettingsMismatchError(
                f"The label config of {self.project.url} shows no data.",
                hint='Set data_key, or set a label config with a tag like <Image value="$image"/>.',
            )
        missing = [key for key in keys if key != name]
        if fills_one and missing and not self.params.adds_data:
            raise SettingsMismatchError(
                f"The label config of {self.project.url} shows {', '.join(keys)}, and a {noun} "
                f"fills only {name!r}.",
                hint="Set data_key to a key that it shows, sidecar_suffix or manifest if the rest "
                "is there, or use JSON tasks.",
            )

    @cached_property
    def _users(self) -> Mapping[str, int]:
        return self.app.users()

    # -- what there is to do --------------------------------------------------------------

    def _release_retryable(self) -> None:
        """Try what is in quarantine again if it is due, or would now be read in another way."""
        failures = self.held.objects.retryable(self.params.reading)
        if failures:
            self.held.objects.release(list(failures))
        self.unread = UnreadObjects(self.held, self.params.reading, failures)

    def _work(self) -> Iterator[Difference]:
        select, objects = self.select, self.held.objects
        ranges = self.bucket.ranges(
            select.folder, range_boundaries=objects.range_boundaries(select)
        )
        known = partial(objects.known_pages, select.folder)
        for range_diff in diff_ranges(known, ranges, select):
            self.held.check_time()
            self.boundaries.record(range_diff)
            self.compared_all &= not (range_diff.completed and range_diff.completed.same)
            self._count_unchanged(range_diff)
            for difference in range_diff.differences:
                if not self.is_again or difference.change is Change.REPLACED:
                    self.result.changes[difference.change] += 1
                self._count(difference)
                if difference.change in WORK:
                    self.queue.unfinished.add(difference.key)
                    yield difference

    def _record_range_boundaries(self) -> None:
        """Record how the bucket wrote what is now done."""
        select, objects = self.select, self.held.objects
        boundaries = self.boundaries.range_boundaries(self.queue.unfinished)
        if boundaries != objects.range_boundaries(select):
            objects.set_range_boundaries(select, boundaries)

    def _count_unchanged(self, range_diff: RangeDiff) -> None:
        if self.is_again:
            return
        self.result.changes[Change.UNCHANGED] += range_diff.unchanged
        if range_diff.filtered:
            self.result.changes[Change.FILTERED] += range_diff.filtered
        self.result.filtered += range_diff.filtered
        self.result.listed += range_diff.unchanged + range_diff.filtered

    def _count(self, difference: Difference) -> None:
        known = difference.known
        is_unknown = known is None or known.state is State.REMOVED
        self.result.listed += difference.listed is not None and not self.is_again
        if difference.change is Change.FILTERED:
            self.result.filtered += is_unknown and not self.is_again
            if not is_unknown:  # it differs from what is known, and no run will change that
                self.queue.unfinished.add(difference.key)

    # -- reading --------------------------------------------------------------------------

    def _content(self, difference: Difference, future: Future[Content] | Ready) -> Content | None:
        """Return what was read of an object, or None if it can't be read now."""
        if isinstance(future, Ready):
            return future.content
        try:
            with self.run.timings.timing("reading"):
                content = future.result()
        except (ObjectChangedError, ObjectNotFoundError) as error:
            self.result.notes.append(str(error))  # the next run sees what it is by then
            self.result.pending += difference.change is Change.ADDED
        except ObjectRefusedError as error:
            return content_of(Rejection(None, str(error)))
        except BucketUnavailableError as error:
            listed = difference.listed
            if listed is None:
                raise
            has_tasks = any(row.task_id for row in self.ahead.rows[listed.key])
            self.unread.add(listed, error, has_tasks=has_tasks)
        except BucketAccessError as error:
            self.result.unread.append(str(error))
            if len(self.result.unread) >= UNREADABLE_AT_MOST:
                raise
        else:
            if self.reader.bytes_of(difference):
                self._quarantine_unread()
            return content
        return None

    # -- one object -----------------------------------------------------------------------

    def _take(self, difference: Difference, content: Content) -> None:
        listed = difference.listed
        if listed is None:
            self._take_removal(difference)
            return
        if difference.change is Change.ADDED:
            self._remember_new(listed)
        if self.reader.ignores(difference):
            self.result.tasks_kept += sum(1 for _ in self.ahead.rows[listed.key])
            self._finish(listed, State.LOADED)
            return
        self.notes.add_key(listed.key)
        version = self._note_sidecar(listed, content)
        self.remarks = Remarks()
        if not (difference.known is None and self._take_new(listed, version, content)):
            self._take_rows(listed, version, content)
        self.result.notes += self.remarks.sentences(self.bucket.uri(listed.key))

    def _take_rows(self, listed: StoredObject, version: str, content: Content) -> None:
        numbers, rejections = self._number(listed.key, version, content), Rejections()
        has_tasks = numbers.has_tasks
        rest = content.rest(numbers.is_loaded)
        for item in (self._checked(each, numbers) for each in rest):
            self.held.check_time()
            if self.batch.is_full:  # with the rows so far; the last row finishes the object
                self._flush()
            if isinstance(item, Task):
                self.remarks.prediction_ids += item.prediction_ids
                has_tasks = self._take_task(listed.key, version, item, numbers) or has_tasks
            else:
                self._keep_place(item, numbers)
                if item.is_unknown_form:
                    self.notes.add_unknown_form(listed.key)
                if rejections.add(item):
                    self._quarantine(listed.key, version, item)
            del item  # before the next one is built
        if rejections.more:
            self._quarantine(listed.key, version, Rejection(None, ""), rejections.more)
        is_loaded = has_tasks or not rejections.is_whole
        state = State.LOADED if is_loaded else State.QUARANTINED
        self.held.objects.displace(listed.key, numbers.displaced)
        self._finish(listed, state, numbers.gone)

    def _take_new(self, listed: StoredObject, version: str, content: Content) -> bool:
        """Load an object that is new and one task, as most are; return whether that was possible.

        It does what is done for any other rows, in a third of the time.
        """
        task = content.task
        if task is None or self.begun.get(listed.key) or self._prediction_error(task):
            return False
        self.remarks.prediction_ids += task.prediction_ids
        identity = identity_of(task.data, self.row_key)
        row = TaskRow(listed.key, 0, version, _digest_of(identity, task), 0, 0, *identity)
        self.batch.add(self._new(row, task))
        self._finish(listed, State.LOADED)
        return True

    def _remember_new(self, listed: StoredObject) -> None:
        self.notes.add_new(listed)
        if len(self.result.first_new) < FIRST_NEW:
            self.result.first_new.append(listed)

    def _note_sidecar(self, listed: StoredObject, content: Content) -> str:
        """Record with which sidecar an object was read; return the version of both.

        The version of a sidecar is empty: if it had rows once, they are gone.
        """
        sidecar = content.sidecar
        if sidecar is None:
            return "" if self.select.is_sidecar(listed.key) else listed.version
        read = ReadSidecar(listed.key, sidecar.key, sidecar.version)
        self.batch.update.sidecars.append(read)
        return sidecar.version_with(listed.version)

    def _finish(self, listed: StoredObject, state: State, gone: array[int] | None = None) -> None:
        """Finish an object with its batch; or later, if tasks of its rows are to be deleted."""
        known = KnownObject(listed.key, listed.version, listed.size, state)
        if gone and self.params.on_delete == "delete":
            self.removals.add(gone, known)
        else:
            self.batch.update.finished.append(known)

    def _take_removal(self, difference: Difference) -> None:
        known = difference.known
        if known is None:
            return
        rows = array("q", (row.row for row in self.ahead.rows[known.key] if row.task_id))
        removed = known._replace(state=State.REMOVED)
        if not rows:
            self.batch.update.forgotten.append(known.key)
        elif self.params.on_delete == "delete":
            self.removals.add(rows, removed)
        else:
            self.batch.update.finished.append(removed)

    def _remove(self) -> None:
        """Delete the tasks of rows that are gone. Raises ``MassChangeError`` before the first."""
        self.removals.carry_out()
        self.result.tasks_deleted += self.removals.deleted
        self.result.tasks_kept += self.removals.kept
        self.result.notes += self.removals.notes
        self.queue.unfinished -= self.removals.keys
        self.queue.outdated |= self.removals.outdated
        self.queue.unfinished |= self.queue.outdated

    def _quarantine(self, key: str, version: str, rejection: Rejection, more: int = 0) -> None:
        reading = self.params.reading
        item = Quarantined(key, rejection.position, version, rejection.reason, reading, more)
        self.batch.update.quarantined.append(item)

    def _checked(self, item: Task | Rejection, numbers: RowNumbers) -> Task | Rejection:
        """Reject a row without its key, or with a prediction that Label Studio would drop."""
        if isinstance(item, Rejection):
            return item
        name = self.row_key
        if name and item.data.get(name) is None:
            return Rejection(item.position, f"The row lacks {quoted(name)}, which is the row_key.")
        if numbers.is_repeated(item.position):
            value = quoted(str(item.data[name]))
            reason = f"An earlier row has the same {quoted(name)}, the row_key: {value}."
            return Rejection(item.position, reason)
        error = self._prediction_error(item)
        return Rejection(item.position, error) if error else item

    def _prediction_error(self, task: Task) -> str:
        for error in filter(None, map(self.label_config.prediction_error, task.predictions)):
            return shorten(f"A prediction does not fit the label config: {error}")
        return ""

    def _number(self, key: str, version: str, content: Content) -> RowNumbers:
        """Return the numbers of an object's rows, those that it has and those that it gets."""
        objects = self.held.objects
        rows, begun = self.ahead.rows[key], self.begun.get(key, {})
        few = {row.row: row for row in rows} if isinstance(rows, Sequence) else None

        def known() -> Iterator[TaskRow]:
            open_ = dict(begun)
            for row in rows:
                open_.pop(row.row, None)
                yield row
            yield from open_.values()

        def look_up(wanted: Sequence[int]) -> dict[int, TaskRow]:
            if few is not None:
                return {**begun, **few}
            found = objects.rows_at((key, number) for number in wanted)
            return {**begun, **{row.row: row for row in found.values()}}

        numbers = RowNumbers(known(), version, self.ahead.next_rows.get(key, 0), look_up)
        numbers.compare(content, self.row_key)
        return numbers

    def _find_begun(self) -> None:
        """Find the rows that imports without an answer may still make; they have their numbers."""
        self.begun: dict[str, dict[int, TaskRow]] = defaultdict(dict)
        for intent in self.held.intents.open(Kind.IMPORT):
            if intent.root == self.bucket.uri():
                for row in intent.rows:
                    self.begun[row.key][row.row] = row

    def _keep_place(self, rejection: Rejection, numbers: RowNumbers) -> None:
        """Record where a known row is by now, although it can't be read."""
        position = rejection.position
        known = None if position is None else numbers.known(position)
        if known and position is not None and known.task_id and known.position != position:
            self.batch.update.loaded.append(replace(known, position=position))

    def _take_task(self, key: str, version: str, task: Task, numbers: RowNumbers) -> bool:
        """Load a row; return whether it has a task, or gets one."""
        before = numbers.known(task.position)
        if before is None and numbers.has_to_wait(task.position):
            return False
        identity = identity_of(task.data, self.row_key)
        row = TaskRow(
            key,
            before.row if before else numbers.new(task.position),
            version,
            _digest_of(identity, task),
            before.task_id if before else 0,
            task.position,
            *identity,
        )
        loaded = self.batch.update.loaded
        if before is None or not before.task_id:
            self.batch.add(self._new(row, task))
        elif before.digest == row.digest or (
            (before.version, before.content) == (version, row.content)
        ):
            loaded.append(row)
        elif before.version and self.params.on_change == "ignore":
            self.result.tasks_kept += 1
            loaded.append(row)
        elif before.version and self.params.on_change == "new_task":
            self.batch.add(self._new(replace(row, task_id=0), task))
        else:  # without a version, its predictions are those of several
            self.remarks.late += len(task.annotations)
            self.batch.add(self._new(row, task))
        return True

    def _new(self, row: TaskRow, task: Task) -> NewTask:
        origin = Origin(
            self.run.name,
            self.bucket.uri(row.key),
            row.version,
            row.row,
            content=row.content,
            row_key=row.row_key,
            predictions=record_of(task.predictions),
        )
        if any("completed_by" in annotation for annotation in task.annotations):
            task, unknown = with_known_annotators(task, self._users)
            self.remarks.unknown += len(unknown)
            self.remarks.annotator = next(map(annotator_name, unknown), self.remarks.annotator)
        return NewTask(row, json.dumps(task.as_import(origin)))

    def _flush(self) -> None:
        """Hand what is gathered to the import."""
        if self.batch != Batch():
            batch, self.batch = self.batch, Batch()
            self.queue.put(batch)


def _digest_of(identity: Identity, task: Task) -> str:
    """Return the digest of a whole row: that of its data, if it has nothing else."""
    more = [task.meta, task.annotations, task.predictions]
    if not any(more):
        return identity.content
    return sha256_hex(canonical_json([identity.content, *more]))
