"""Reads objects ahead of their turn, and looks up what is known of their rows."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.engine.import_queue import BATCH_ROWS
from ls_pipeline.engine.object_rows import close_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from ls_pipeline.domain.diff import Difference
    from ls_pipeline.engine.object_rows import Content
    from ls_pipeline.engine.reading import ObjectReader
    from ls_pipeline.resources.ledger.objects import ObjectRecords
    from ls_pipeline.resources.ledger.records import TaskRow

READERS = 16
"""Objects read at once."""

READ_AHEAD = BATCH_ROWS
READ_AHEAD_BYTES = 64 * 2**20
"""What is read and waits for its turn: while one batch is imported, the next is read. A larger
object is read when no other waits."""


class Ready(NamedTuple):
    """What needs no reading, in place of a future: that takes longer to make than a blob's task."""

    content: Content

    def result(self) -> Content:
        """Return the content, as a future does."""
        return self.content


class ReadAhead:
    """The objects of some differences, read in parallel."""

    def __init__(self, reader: ObjectReader, objects: ObjectRecords) -> None:
        self._reader, self._objects = reader, objects
        self.rows: dict[str, Iterable[TaskRow]] = {}
        """By key, the known rows of the object whose turn it is, and of some that follow."""
        self.next_rows: dict[str, int] = {}

    def read(
        self, readers: ThreadPoolExecutor, work: Iterable[Difference]
    ) -> Iterator[tuple[Difference, Future[Content] | Ready]]:
        """Read the objects; yield them in their order, each with its rows looked up."""
        waiting: deque[tuple[Difference, Future[Content] | Ready, int]] = deque()
        ahead = 0
        self.rows, self.next_rows = {}, {}
        try:
            for difference in work:
                size = self._reader.bytes_of(difference)
                while waiting and (len(waiting) >= READ_AHEAD or ahead + size > READ_AHEAD_BYTES):
                    self._look_up_rows(waiting)
                    first, future, first_size = waiting.popleft()
                    yield first, future
                    ahead -= first_size  # not before: until then its content is held
                waiting.append((difference, self._begin(readers, difference), size))
                ahead += size
            while waiting:
                self._look_up_rows(waiting)
                yield waiting.popleft()[:2]
        finally:
            for _, future, _ in waiting:
                if isinstance(future, Future):
                    future.cancel()
                    future.add_done_callback(close_content)

    def _look_up_rows(self, waiting: Sequence[tuple[Difference, object, int]]) -> None:
        """Look up the known rows of the first, and of others that wait with it if they are few.

        An object that is unknown has none.
        """
        if waiting[0][0].key in self.rows:
            return
        keys = [difference.key for difference, _, _ in waiting]
        known = {difference.key for difference, _, _ in waiting if difference.known}
        few_rows_of = self._objects.few_rows_of
        while (rows := few_rows_of([*filter(known.__contains__, keys)])) is None and len(keys) > 1:
            keys = keys[: len(keys) // 2]
        if rows is None:
            self.rows = {keys[0]: self._objects.all_rows_of(keys[0])}
        else:
            self.rows = {key: rows.get(key, ()) for key in keys}
        self.next_rows = self._objects.next_rows(list(known.intersection(keys))) if known else {}

    def _begin(
        self, readers: ThreadPoolExecutor, difference: Difference
    ) -> Future[Content] | Ready:
        """Read an object in another thread; a blob is not read, and needs none."""
        if self._reader.needs_no_request:
            return Ready(self._reader.read(difference))
        return readers.submit(self._reader.read, difference)
