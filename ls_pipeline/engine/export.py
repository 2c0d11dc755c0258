"""A run over a connection's completions: write those that changed to the target.

Each is a JSON document, written whole, and only if it differs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState
from ls_pipeline.domain.errors import (
    BucketError,
    ExternalSystemError,
    IdentityError,
    StoredSettingsError,
)
from ls_pipeline.domain.exports import completion_key
from ls_pipeline.domain.moments import earlier
from ls_pipeline.domain.notes import Notes
from ls_pipeline.engine.completion_files import (
    WRITERS,
    BegunFiles,
    ExportResult,
    begin_completions,
    bury_files,
    write_begun,
    write_completions,
)
from ls_pipeline.engine.detect import OVERLAP, select_changed
from ls_pipeline.engine.guard import check_mass_change
from ls_pipeline.engine.target_files import reopen_changed, verify_files
from ls_pipeline.resources.ledger.records import Intent, Kind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.settings.model import Target

Page = TypeVar("Page")

SAME_FOR = timedelta(minutes=2)
"""How long an equal count and newest time of recently touched tasks count as "nothing changed".

A change that shows up late can be missed in that time; the next listing finds it.
"""

BATCH = 200
"""Tombstones written and recorded at once."""


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
            reopen_changed(run, intent)
            run.held.intents.keep_open(intent)
    return notes


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
        self.deleted |= set(ids) - self._write(ids)

    def _write_changed(self, states: Sequence[TaskState], since: str) -> None:
        """Write the completions of tasks that were touched since a time, if they changed."""
        run, projects, result = self.run, self.projects, self.result
        uncounted = set(projects.uncounted_tasks(since)) if states else set()
        last = self.exports.last_written([state.id for state in states])
        selected = select_changed(states, last, run.name, self.target, uncounted)
        selected = [task_id for task_id in selected if task_id not in self.emptied]
        result.selected += len(selected)
        self._write(selected)
        if uncounted:  # without those that were only being annotated
            uncounted.intersection_update(projects.uncounted_tasks(since))
            result.uncounted = sorted(uncounted.union(result.uncounted))

    def _write(self, task_ids: Sequence[int]) -> set[int]:
        """Write the completions of tasks, except those to take away at last; return which exist.

        While the files of a page are written, the intent of the next page is recorded, and the
        page behind that is read.
        """
        timings, found = self.run.timings, set[int]()
        pages = _in_advance(self.projects.pages(task_ids))
        begun_pages = _in_advance(map(self._begin, pages))
        # Closed at once: nothing may be recorded once the connection is not held any more.
        with ThreadPoolExecutor(WRITERS) as writers, closing(pages), closing(begun_pages):
            for emptied, begun in timings.timing_each("reading", begun_pages):
                with timings.timing("writing"):
                    write_begun(self.run, writers, begun, self.result)
                self.emptied |= emptied
                found |= emptied | {completion.task_id for completion in begun.completions}
                self.run.advance("completions", len(found), len(task_ids))
                del begun  # before the next is waited for
        return found

    def _begin(self, completions: Sequence[Completion]) -> tuple[set[int], BegunFiles]:
        """Return the tasks without annotations, and the others' files, about to be written."""
        emptied = {completion.task_id for completion in completions if not completion.annotations}
        filled = [completion for completion in completions if completion.annotations]
        return emptied, begin_completions(self.run, filled)

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
            bury_files(self.run, [last[task_id] for task_id in ids], self.result)


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


def _in_advance(pages: Iterator[Page]) -> Generator[Page, None, None]:
    """Take each page from an iterator in a thread, while the one before it is worked on."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = thread.submit(next, pages, None)
            yield page
            del page  # before the next is waited for
