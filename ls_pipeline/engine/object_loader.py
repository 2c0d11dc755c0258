"""Turns what was read of objects into tasks to import, row by row."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from ls_pipeline.domain.annotators import annotator_name, with_known_annotators
from ls_pipeline.domain.completions import canonical_json, sha256_hex
from ls_pipeline.domain.diff import Change, Difference, KnownObject, State
from ls_pipeline.domain.notes import quoted, shorten
from ls_pipeline.domain.predictions import record_of
from ls_pipeline.domain.row_matching import Identity, identity_of
from ls_pipeline.domain.tasks import Origin, Rejection, Task
from ls_pipeline.engine.effects import NewTask
from ls_pipeline.engine.import_queue import Batch
from ls_pipeline.engine.load_result import LoadNotes, LoadResult
from ls_pipeline.engine.object_rows import Content, Rejections, Remarks
from ls_pipeline.engine.removals import Removals
from ls_pipeline.engine.row_numbers import RowNumbers
from ls_pipeline.resources.ledger.records import Kind, Quarantined, ReadSidecar, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.import_queue import ImportQueue
    from ls_pipeline.engine.read_ahead import ReadAhead
    from ls_pipeline.engine.reading import ObjectReader

FIRST_NEW = 10
"""New objects that a result shows."""


class ObjectLoader:
    """Takes the objects of one run in turn, and hands their tasks to the import in batches."""

    def __init__(
        self,
        run: RunContext,
        reader: ObjectReader,
        ahead: ReadAhead,
        queue: ImportQueue,
        result: LoadResult,
    ) -> None:
        self.run, self.held, self.bucket = run, run.held, run.bucket
        self.params = run.source.params
        self.reader, self.ahead, self.queue, self.result = reader, ahead, queue, result
        self.row_key = "" if self.params.fills_one_key else self.params.row_key
        self.batch = Batch()
        self.notes = LoadNotes(run)
        self.remarks = Remarks()
        self.begin()

    def begin(self) -> None:
        """Begin a comparison with the bucket."""
        self.removals = Removals(self.run)
        self._find_begun()

    def take(self, difference: Difference, content: Content) -> None:
        """Take an object with what was read of it, into this batch and those that follow."""
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
                self.flush()
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
        self.batch.add(self._new(self._row(listed.key, 0, version, task), task))
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
            return "" if self.reader.select.is_sidecar(listed.key) else listed.version
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
        for error in filter(None, map(self.reader.label_config.prediction_error, task.predictions)):
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
        number = before.row if before else numbers.new(task.position)
        row = self._row(key, number, version, task, before.task_id if before else 0)
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

    def _row(self, key: str, number: int, version: str, task: Task, task_id: int = 0) -> TaskRow:
        identity = identity_of(task.data, self.row_key)
        digest = _digest_of(identity, task)
        return TaskRow(key, number, version, digest, task_id, task.position, *identity)

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

    @cached_property
    def _users(self) -> Mapping[str, int]:
        return self.run.app.users()

    def flush(self) -> None:
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
