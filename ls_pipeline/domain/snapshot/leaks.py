"""Equal content in several splits, which makes an evaluation look better than the model is."""

from __future__ import annotations

import json
from array import array
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.completions import canonical_json
from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.snapshot.manifest import LeakedTask, Leaks
from ls_pipeline.domain.snapshot.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

EXAMPLES = 10
"""Contents that a manifest names."""

COLUMNS = ("task_id", "split", "data")
"""The columns of the table of tasks that are compared."""


class LeakFinder:
    """Finds tasks with equal content in several splits. It takes 17 bytes a task.

    The content is what the label config shows of a task's data, or all of it if that shows nothing.
    """

    def __init__(self, label_config: str) -> None:
        try:
            config = LabelConfig(label_config)
        except NotATaskError:
            config = LabelConfig()
        self._keys = [config.key(name) for name in config.keys]
        self._task_ids, self._splits, self._hashes = array("q"), array("b"), array("q")

    def add(self, tasks: pa.Table) -> None:
        """Add the tasks of a part."""
        columns = [tasks[name].to_pylist() for name in COLUMNS]
        for task_id, split, data in zip(*columns, strict=True):
            self._task_ids.append(task_id)
            self._splits.append(SPLITS.index(split))
            self._hashes.append(self._hash(json.loads(data)))

    def find(self) -> Leaks:
        """Return what is in several splits: numbers, and the first examples."""
        import numpy as np  # not `pyarrow.compute`, which takes 15 MB

        task_ids, splits, hashes = map(np.asarray, (self._task_ids, self._splits, self._hashes))
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order][:1]))
        if not starts.size:
            return Leaks(contents=0, tasks=0, examples=[])
        ends = np.append(starts[1:], hashes.size)
        lowest, highest, first = (
            choose.reduceat(values[order], starts)
            for choose, values in (
                (np.minimum, splits),
                (np.maximum, splits),
                (np.minimum, task_ids),
            )
        )
        leaked = np.flatnonzero(lowest != highest)
        leaked = leaked[np.argsort(first[leaked], kind="stable")]
        of_examples = (order[starts[each] : ends[each]] for each in leaked[:EXAMPLES])
        return Leaks(
            contents=leaked.size,
            tasks=int((ends - starts)[leaked].sum()),
            examples=[
                _example(zip(task_ids[rows].tolist(), splits[rows].tolist(), strict=True))
                for rows in of_examples
            ],
        )

    def _hash(self, data: Any) -> int:
        shown: dict[str, Any] = {}
        for key in self._keys if isinstance(data, dict) else ():
            with suppress(LookupError):
                shown[key.name] = key.value_in(data)
        digest = blake2b(canonical_json(shown or data), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)


def _example(tasks: Iterable[tuple[int, int]]) -> list[LeakedTask]:
    """Return the first task of each split, from the ids and splits of tasks."""
    first: dict[int, int] = {}
    for task_id, split in tasks:
        first.setdefault(split, task_id)
    return [LeakedTask(task_id=first[split], split=SPLITS[split]) for split in sorted(first)]
