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
        import pyarrow as pa
        import pyarrow.compute as pc

        compute: Any = pc  # its functions are made at run time
        table = pa.table(
            {
                "task_id": _column(self._task_ids, pa.int64()),
                "split": _column(self._splits, pa.int8()),
                "content": _column(self._hashes, pa.int64()),
            }
        )
        wanted = [("split", "min"), ("split", "max"), ("task_id", "min"), ("task_id", "count")]
        contents = table.group_by("content").aggregate(wanted)
        leaked = contents.filter(
            compute.not_equal(contents["split_min"], contents["split_max"])
        ).sort_by("task_id_min")
        tasks = table.filter(compute.is_in(table["content"], leaked["content"][:EXAMPLES]))
        return Leaks(
            contents=leaked.num_rows,
            tasks=sum(leaked["task_id_count"].to_pylist()),
            examples=[
                _example(tasks.filter(compute.equal(tasks["content"], content)))
                for content in leaked["content"][:EXAMPLES]
            ],
        )

    def _hash(self, data: Any) -> int:
        shown: dict[str, Any] = {}
        for key in self._keys if isinstance(data, dict) else ():
            with suppress(LookupError):
                shown[key.name] = key.value_in(data)
        digest = blake2b(canonical_json(shown or data), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)


def _column(values: array[int], type_: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)])


def _example(tasks: pa.Table) -> list[LeakedTask]:
    """Return the first task of each split."""
    first: dict[int, int] = {}
    for task_id, split in zip(
        tasks["task_id"].to_pylist(), tasks["split"].to_pylist(), strict=True
    ):
        first.setdefault(split, task_id)
    return [LeakedTask(task_id=first[split], split=SPLITS[split]) for split in sorted(first)]
