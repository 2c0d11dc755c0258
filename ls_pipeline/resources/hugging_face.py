"""Tasks as a dataset of Hugging Face's library ``datasets``, memory-mapped from an Arrow file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.batches import sized_batches
from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.snapshot.tables import LINEAGE, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ls_pipeline.domain.label_config import DataKey

OWN = ("task_id", "object_uri", "split", "data", "results")
"""Columns of a dataset besides those of the data keys that the label config shows."""

FEATURES = {"Image": "Image", "Audio": "Audio", "AudioPlus": "Audio", "Video": "Video"}
"""Tag → the feature of its media."""

BATCH_BYTES = 8 * 2**20
"""Bytes of tasks that are in memory at once."""

Row = dict[str, Any]


class TaskDataset:
    """Rows of tasks, each with its results, and with a column for each data key that is shown."""

    def __init__(
        self, keys: Sequence[DataKey], media: Mapping[tuple[int, str], Sequence[str]] | None
    ) -> None:
        """``media`` has the paths of each task's media by data key; None: there is none on disk."""
        self.keys, self.media = keys, media
        try:
            import datasets
        except ImportError as error:
            raise SnapshotError(
                "The library datasets is not installed.", hint="Run pip install datasets pillow."
            ) from error
        self._datasets: Any = datasets

    def write(self, tasks: Iterable[tuple[Row, Sequence[Row]]], to: Path) -> Any:
        """Write tasks with their results to a file, and return it as a dataset."""
        import pyarrow as pa

        file_schema = self._features().arrow_schema
        draft = to.with_suffix(f".{os.getpid()}")
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                pa.OSFile(str(draft), "wb") as sink,
                pa.ipc.new_stream(sink, file_schema) as writer,
            ):
                rows = (self._row(*task) for task in tasks)
                for some in sized_batches(rows, _size, BATCH_BYTES):
                    writer.write_table(pa.Table.from_pylist(some, schema=file_schema))
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)
        return self._datasets.Dataset.from_file(str(to))

    def _features(self) -> Any:
        import pyarrow as pa

        lineage = schema("tasks")
        results = [field for field in schema("results") if field.name not in LINEAGE]
        fields = [lineage.field(name) for name in OWN if name != "results"]
        fields.append(pa.field("results", pa.list_(pa.struct(results))))
        fields += [pa.field(_column(key), _type(key)) for key in self.keys]
        features = self._datasets.Features.from_arrow_schema(pa.schema(fields))
        for key in self.keys if self.media is not None else ():
            if key.tag in FEATURES:
                feature = getattr(self._datasets, FEATURES[key.tag])()
                features[_column(key)] = [feature] if _is_list(key) else feature
        return features

    def _row(self, task: Row, results: Sequence[Row]) -> Row:
        row = {name: task[name] for name in OWN if name != "results"}
        row["results"] = results
        data = json.loads(task["data"])
        for key in self.keys:
            row[_column(key)] = self._value(key, task["task_id"], data)
        return row

    def _value(self, key: DataKey, task_id: int, data: Any) -> Any:
        if self.media is not None and key.tag in FEATURES:
            files = [
                {"bytes": None, "path": path} for path in self.media.get((task_id, key.name), ())
            ]
            return files if _is_list(key) else next(iter(files), None)
        try:
            value = key.value_in(data)
        except LookupError:
            return None
        if _is_list(key):
            return [_text(item) for item in value] if isinstance(value, list) else None
        return _text(value)


def _size(row: Row) -> int:
    """Return about how many bytes a row takes."""
    return len(row["data"]) + sum(len(result["value"] or "") + 500 for result in row["results"])


def _is_list(key: DataKey) -> bool:
    return key.is_value_list or "[" in key.variable


def _type(key: DataKey) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.string()) if _is_list(key) else pa.string()


def _column(key: DataKey) -> str:
    return f"{key.name}_" if key.name in OWN else key.name


def _text(value: object) -> str | None:
    """Return a text as UTF-8 can have it, and anything else as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()
