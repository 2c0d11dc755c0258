"""A run over a source: find what changed, and load it as tasks, each exactly once.

It first settles what earlier runs left open. Then it reads what differs, and imports it in batches
in the order of the keys.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ls_pipeline.domain.diff import WORK, Change, Difference, State
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
from ls_pipeline.domain.tasks import Rejection
from ls_pipeline.engine.import_queue import ImportQueue
from ls_pipeline.engine.load_result import LoadResult, note_of_unlisted
from ls_pipeline.engine.manifest import manifest_of, read_as, read_by
from ls_pipeline.engine.object_loader import ObjectLoader
from ls_pipeline.engine.object_rows import Content, content_of
from ls_pipeline.engine.read_ahead import READERS, ReadAhead, Ready
from ls_pipeline.engine.reading import ObjectReader
from ls_pipeline.engine.reconcile import reconcile_tasks
from ls_pipeline.engine.unread import UNREADABLE_AT_MOST, UnreadObjects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.domain.listing_ranges import RangeDiff
    from ls_pipeline.engine.context import RunContext


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
        self.bucket, self.projects = run.bucket, run.projects
        self.params = run.source.params
        self.result = LoadResult()
        self.boundaries = BoundaryTracker()
        self.compared_all = True
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
        self.queue = ImportQueue(self.run, reconciler)
        self.objects = ObjectLoader(self.run, self.reader, self.ahead, self.queue, self.result)
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
        self.result.notes += self.objects.notes.sentences()
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
                self.objects.take(difference, content)
            if self.objects.batch.is_full:
                self.objects.flush()

    def _finish_batch(self) -> None:
        self.objects.flush()
        self.queue.wait()

    def _quarantine_unread(self) -> None:
        for item, known in self.unread.take():
            self.objects.batch.update.quarantined.append(item)
            self.objects.batch.update.finished.append(known)
            self.result.notes.append(item.reason)

    def _remove(self) -> None:
        """Delete the tasks of rows that are gone. Raises ``MassChangeError`` before the first."""
        removals = self.objects.removals
        removals.carry_out()
        self.result.tasks_deleted += removals.deleted
        self.result.tasks_kept += removals.kept
        self.result.notes += removals.notes
        self.queue.unfinished -= removals.keys
        self.queue.outdated |= removals.outdated
        self.queue.unfinished |= self.queue.outdated

    def _begin_again(self) -> None:
        """Compare a second time, for objects whose sidecars came after them in the listing."""
        self.is_again = True
        self.boundaries = BoundaryTracker()
        self.objects.begin()

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
