"""Which results of a check Dagster knows, in the few bytes that a cursor has room for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import count, groupby
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Ranges = Annotated[str, Field(pattern=r"^\d{1,18}(-\d{1,18})?(,\d{1,18}(-\d{1,18})?)*$")]
"""Numbers, as in 3-5,9."""


class Reported(BaseModel):
    """The results that were reported of a check, by the numbers of connections.

    A result is a digest of what failed, or an empty text if it passed. Dagster keeps the cursor of
    each tick, so connections with the same digest are kept as ranges of their numbers.
    """

    model_config = ConfigDict(strict=True)

    newest: int = 0
    """The highest number with a reported result."""
    failed: dict[str, Ranges] = Field(default_factory=dict)
    """The connections that failed, by digest."""

    def changed(self, found: Mapping[int, str]) -> list[int]:
        """Return the connections whose result is another one; those without one come last."""
        known = self._known(found)
        old = [number for number in sorted(found) if number <= self.newest]
        new = [number for number in sorted(found) if number > self.newest]
        return [number for number in old if found[number] != known.get(number, "")] + new

    def after(self, found: Mapping[int, str], reported: Sequence[int]) -> Reported:
        """Return what is reported once the results of some connections are, too."""
        digests = self._known(found) | {number: found[number] for number in reported}
        by_digest: dict[str, list[int]] = {}
        for number, digest in digests.items():
            if digest:
                by_digest.setdefault(digest, []).append(number)
        failed = {digest: _ranges(numbers) for digest, numbers in by_digest.items()}
        return Reported(newest=max([self.newest, *reported]), failed=failed)

    def _known(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return the digests of those of these connections that failed."""
        ordered = sorted(numbers)
        return {
            number: digest
            for digest, ranges in self.failed.items()
            for first, last in _borders(ranges)
            for number in ordered[bisect_left(ordered, first) : bisect_right(ordered, last)]
        }


def _ranges(numbers: Iterable[int]) -> str:
    position = count()
    runs = groupby(sorted(numbers), key=lambda number: number - next(position))
    borders = ((run[0], run[-1]) for run in (list(run) for _, run in runs))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in borders)


def _borders(ranges: str) -> Iterator[tuple[int, int]]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield int(first), int(last or first)
