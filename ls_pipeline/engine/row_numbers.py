"""Which rows of an object are known, and which numbers its new rows get."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ls_pipeline.domain.row_matching import Identity, RowList, identity_of, match_rows
from ls_pipeline.domain.tasks import NO_POSITION, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ls_pipeline.domain.tasks import Task
    from ls_pipeline.resources.ledger.records import TaskRow

    LookUp = Callable[[Sequence[int]], Mapping[int, TaskRow]]

PAGE = 1000
"""Known rows that are looked up at once."""

_NEW, _REPEATED = -1, -2


class RowNumbers:
    """The numbers of an object's rows in one version.

    ``known`` are the rows that the ledger has, and those that an open intent may still make.
    """

    def __init__(
        self, known: Iterable[TaskRow], version: str, next_row: int, look_up: LookUp
    ) -> None:
        self._next, self._look_up = next_row, look_up
        self._known, self._numbers = RowList(), array("q")
        self._exists = bytearray()
        self._is_current = True
        for row in known:
            # A row that was recovered from Label Studio may have moved since.
            is_current = row.version == version and bool(row.digest)
            is_current = is_current and row.position != NO_POSITION
            self._is_current = self._is_current and is_current
            self._known.add(row.position, Identity(row.content, row.row_key), is_current=is_current)
            self._numbers.append(row.row)
            self._next = max(self._next, row.row + 1)
            self._exists.append(bool(row.task_id))
        self._by_position = array("q")
        """Places in the list of known rows, or what there is instead."""
        self._page: Mapping[int, TaskRow] = {}
        self._paged = range(0)
        self._is_whole = True
        self.displaced = array("q")
        """The numbers of the known rows that this version does not have.

        Empty if it can't be read to its end: then it is unknown which other rows it has.
        """
        self.gone = array("q")
        """Those of them that have tasks."""
        self._is_compared = False

    def compare(self, content: Iterable[Task | Rejection], row_key: str) -> None:
        """Find the known rows in the object's content, which is read only if it has to be."""
        if self._is_current and not row_key:
            positions = self._known.positions.tolist()
            self._fill(positions, range(len(positions)))
            return
        self._is_compared = True
        new = RowList()
        for item in content:
            if item.position is None:
                self._is_whole = False
            else:
                new.add(item.position, identity_of(item.data, row_key))
        matching = match_rows(self._known, new, is_whole=self._is_whole)
        places = matching.pairs
        places[matching.repeated] = _REPEATED
        self._fill(new.positions.tolist(), places.tolist())
        for place in matching.gone() if self._is_whole else ():
            self.displaced.append(self._numbers[place])
            if self._exists[place]:
                self.gone.append(self._numbers[place])

    def _fill(self, positions: Sequence[int], places: Iterable[int]) -> None:
        self._by_position = array("q", [_NEW]) * (max(positions, default=-1) + 1)
        for position, place in zip(positions, places, strict=True):
            self._by_position[position] = place

    @property
    def has_tasks(self) -> bool:
        """Whether any known row has a task."""
        return any(self._exists)

    def is_loaded(self, position: int) -> bool:
        """Return whether the row at a position has its task, and all known rows are current."""
        place = self._place(position)
        return not self._is_compared and place >= 0 and bool(self._exists[place])

    def known(self, position: int) -> TaskRow | None:
        """Return what is known of the row at a position; None if it is new."""
        if self._place(position) < 0:
            return None
        if position not in self._paged:
            self._paged = range(position, position + PAGE)
            places = (place for place in map(self._place, self._paged) if place >= 0)
            self._page = self._look_up([self._numbers[place] for place in places])
        return self._page.get(self._numbers[self._place(position)])

    def new(self, position: int) -> int:
        """Return the number of a new row; in an object's first version it is the position."""
        number = max(self._next, position)
        self._next = number + 1
        return number

    def is_repeated(self, position: int) -> bool:
        """Return whether a row before this one has the same ``row_key``."""
        return self._place(position) == _REPEATED

    def has_to_wait(self, position: int) -> bool:
        """Return whether the row at a position may be a known one that was changed.

        That is open if the object can't be read to its end.
        """
        return not self._is_whole and bool(self._numbers) and self._place(position) == _NEW

    def _place(self, position: int) -> int:
        return self._by_position[position] if position < len(self._by_position) else _NEW
