"""Which format an object has: what the params say, else its key and its content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.domain.tasks import Rejection

if TYPE_CHECKING:
    from ls_pipeline.domain.formats.columns import ColumnMap
    from ls_pipeline.domain.label_config import DataKey

AUTO, JSON, JSONL, CSV, TSV, PARQUET, TEXT = (
    "auto",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "parquet",
    "text",
)

TABLES = frozenset({CSV, TSV, PARQUET})
"""Formats whose rows are read one by one from a file of any size."""

SUFFIXES = {
    ".json": JSON,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
}

LARGEST_OBJECT = 100 * 2**20
"""Bytes of an object that is read into memory, decompressed; a larger one is rejected."""

LARGEST_TABLE = 10 * 2**30
"""Bytes of a CSV, TSV or Parquet object, which is read from a temporary file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the params say that objects are read."""

    format: str = AUTO
    column_map: ColumnMap = field(default_factory=dict)
    text_key: DataKey | None = None
    """What a text becomes in the data."""

    def format_of(self, key: str) -> str:
        """Return the format that the params or a key say; empty if its content has to."""
        if self.format != AUTO:
            return self.format
        name = key.lower().removesuffix(".gz")
        return next((each for suffix, each in SUFFIXES.items() if name.endswith(suffix)), "")

    def size_rejection(self, key: str, size: int) -> Rejection | None:
        """Return a rejection if an object of ``size`` bytes is too large to read."""
        format_ = self.format_of(key)
        most = LARGEST_TABLE if format_ in TABLES else LARGEST_OBJECT
        if size <= most:
            return None
        hint = "Split it." if format_ else "If it is CSV, TSV or Parquet, set the param format."
        return Rejection(None, f"The object has {size:,} bytes; at most {most:,} are read. {hint}")
