"""Find the rows of an object's earlier version in its new one, wherever they moved.

A row is known by the param ``row_key`` if it is set, else by its data, then by its position. The
arrays take about 50 bytes for each row, so that files of millions of rows can be compared.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ls_pipeline.domain.completions import canonical_json
from ls_pipeline.domain.tasks import NO_POSITION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SIZE = 16


class Identity(NamedTuple):
    """What a row is known by, as hexadecimal digests; empty if there is nothing to know."""

    content: str = ""
    """Of its data."""
    row_key: str = ""
    """Of the value that its data has for the param ``row_key``."""


def identity_of(data: Mapping[str, Any] | None, row_key: str) -> Identity:
    """Return what a row with this data is known by."""
    if data is None:
        return Identity()
    key = data.get(row_key) if row_key else None
    return Identity(_digest(data), "" if key is None else _digest(key))


def _digest(value: object) -> str:
    return blake2b(canonical_json(value), digest_size=_SIZE).hexdigest()


class RowList:
    """Rows of an object, in arrays."""

    def __init__(self) -> None:
        self._positions = array("q")
        self._contents, self._row_keys = bytearray(), bytearray()
        self._current = bytearray()

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, position: int, identity: Identity, *, is_current: bool = False) -> None:
        """Add a row; a known one is current if it has the version that it is compared with."""
        self._positions.append(position)
        self._current.append(is_current)
        self._contents += bytes.fromhex(identity.content) or bytes(_SIZE)
        self._row_keys += bytes.fromhex(identity.row_key) or bytes(_SIZE)

    @property
    def positions(self) -> NDArray[np.int64]:
        return np.frombuffer(self._positions, np.int64)

    @property
    def current(self) -> NDArray[np.bool_]:
        return np.frombuffer(self._current, bool)

    @property
    def contents(self) -> NDArray[np.bytes_]:
        return np.frombuffer(self._contents, f"S{_SIZE}")

    @property
    def row_keys(self) -> NDArray[np.bytes_]:
        return np.frombuffer(self._row_keys, f"S{_SIZE}")


@dataclass(frozen=True)
class Matching:
    """Which row of the earlier version each row of the new one is."""

    pairs: NDArray[np.int64]
    """For each new row, the place of the known row in its list; -1 for a row that is new."""
    repeated: NDArray[np.bool_]
    """For each new row, whether an earlier one has the same ``row_key``: it can't be loaded."""
    known: int
    """The number of known rows."""

    def gone(self) -> list[int]:
        """Return the places of the known rows that were not found."""
        is_gone = np.ones(self.known, bool)
        is_gone[self.pairs[self.pairs >= 0]] = False
        return [int(place) for place in np.flatnonzero(is_gone)]


def match_rows(known: RowList, new: RowList, *, is_whole: bool = True) -> Matching:
    """Find each known row among the new ones.

    Rows that are alike keep their order; those that were gone come last. If the new version can't
    be read to its end (``is_whole`` is false), a known row may be in the rest of it: then
    positions say nothing.
    """
    repeated = _repeated(new.row_keys)
    places = np.where(known.positions == NO_POSITION, np.iinfo(np.int64).max, known.positions)
    order = np.argsort(places, kind="stable")
    pairs = np.full(len(new), -1, np.int64)
    usable = ~repeated
    pair = partial(_pair, pairs, order)
    pair(known.positions, new.positions, known.current, usable)
    has_key = usable & (new.row_keys != b"")
    pair(known.row_keys, new.row_keys, known.row_keys != b"", has_key)
    has_content = usable & (new.contents != b"")
    pair(known.contents, new.contents, known.contents != b"", has_content)
    if is_whole:
        is_known = pairs >= 0
        pair(known.positions, new.positions, known.positions != NO_POSITION, usable)
        pairs[~is_known & _differ(known.row_keys, new.row_keys, pairs)] = -1
    return Matching(pairs, repeated, len(known))


def _repeated(row_keys: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Return which rows have a key that a row before them has."""
    repeated = np.ones(len(row_keys), bool)
    repeated[np.unique(row_keys, return_index=True)[1]] = False
    repeated[row_keys == b""] = False
    return repeated


def _pair(
    pairs: NDArray[np.int64],
    order: NDArray[np.int64],
    known: NDArray[Any],
    new: NDArray[Any],
    known_usable: NDArray[np.bool_],
    new_usable: NDArray[np.bool_],
) -> None:
    """Pair those of the usable rows that are free and have the same value, in their order."""
    free = known_usable.copy()
    free[pairs[pairs >= 0]] = False
    left, right = order[free[order]], np.flatnonzero(new_usable & (pairs < 0))
    left = left[np.argsort(known[left], kind="stable")]
    right = right[np.argsort(new[right], kind="stable")]
    values, wanted = known[left], new[right]
    # The nth of those with a value is paired with the nth known one.
    rank = np.arange(len(right)) - np.searchsorted(wanted, wanted)
    place = np.searchsorted(values, wanted) + rank
    exists = place < np.searchsorted(values, wanted, side="right")
    pairs[right[exists]] = left[place[exists]]


def _differ(
    known: NDArray[np.bytes_], new: NDArray[np.bytes_], pairs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs have two keys that differ; such rows are never the same."""
    differ = np.zeros(len(new), bool)
    paired = np.flatnonzero(pairs >= 0)
    left, right = known[pairs[paired]], new[paired]
    differ[paired] = (left != b"") & (right != b"") & (left != right)
    return differ
