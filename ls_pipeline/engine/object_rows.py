"""The rows of one object on their way to become tasks, and what a run remarks about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ls_pipeline.domain.annotators import ANNOTATORS_KEY
from ls_pipeline.domain.notes import quoted
from ls_pipeline.domain.tasks import Task
from ls_pipeline.engine.import_queue import REJECTIONS_KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from typing import BinaryIO, TypeAlias

    from ls_pipeline.domain.sidecars import Sidecar
    from ls_pipeline.domain.tasks import Rejection

    IsLoaded: TypeAlias = Callable[[int], bool]


@dataclass
class Rejections:
    """What is rejected of one object."""

    is_whole: bool = False
    rows: int = 0

    def add(self, rejection: Rejection) -> bool:
        """Count a rejection; return whether the ledger is to list it."""
        if rejection.position is None:
            self.is_whole = True
            return True
        self.rows += 1
        return self.rows <= REJECTIONS_KEPT

    @property
    def more(self) -> int:
        """The number of rejected rows that the ledger does not list."""
        return max(self.rows - REJECTIONS_KEPT, 0)


@dataclass
class Remarks:
    """What a person should know of one object although its rows are tasks."""

    prediction_ids: int = 0
    unknown: int = 0
    """Annotations of people who have no user in Label Studio."""
    annotator: str = ""
    """One of these people."""
    late: int = 0
    """Annotations of rows that have tasks already."""

    def sentences(self, uri: str) -> Iterator[str]:
        """Return it in sentences."""
        if self.prediction_ids:
            yield (
                f"{uri} has predictions ({self.prediction_ids:,}) only as ids, as exports of Label "
                "Studio do. Its tasks were loaded without them."
            )
        if self.unknown:
            yield (
                f"{uri} has annotations ({self.unknown:,}) of people without a user in this Label "
                f"Studio, such as {quoted(self.annotator)}. They now belong to the API key's user; "
                f"`{ANNOTATORS_KEY}` in the task's meta names who made them."
            )
        if self.late:
            yield (
                f"{uri} has annotations ({self.late:,}) for rows that changed and have tasks "
                "already. They were not taken: annotations are imported with new tasks only."
            )


class Content:
    """The rows of an object, which are parsed each time that they are asked for.

    ``parse`` takes what says whether the row at a position is loaded; it may leave out such rows.
    """

    def __init__(
        self,
        parse: Callable[[IsLoaded], Iterable[Task | Rejection]],
        file: BinaryIO | None = None,
        sidecar: Sidecar | None = None,
        task: Task | None = None,
    ) -> None:
        self._parse, self._file, self.sidecar = parse, file, sidecar
        self.task = task
        """The object's only row, if it needs no parsing."""

    def __iter__(self) -> Iterator[Task | Rejection]:
        return iter(self._parse(lambda _: False))

    def rest(self, is_loaded: IsLoaded) -> Iterable[Task | Rejection]:
        """Return the rows that are not loaded, and some that are."""
        return self._parse(is_loaded)

    def close(self) -> None:
        """Let go of what was read."""
        self._parse = lambda _: ()
        if self._file:
            self._file.close()


def content_of(*items: Task | Rejection, sidecar: Sidecar | None = None) -> Content:
    """Return rows that need no parsing."""
    only = items[0] if len(items) == 1 else None
    task = only if isinstance(only, Task) else None
    return Content(lambda _: items, sidecar=sidecar, task=task)


def close_content(future: Future[Content]) -> None:
    """Let go of what a reader has read, if it has."""
    if not future.cancelled() and not future.exception():
        future.result().close()
