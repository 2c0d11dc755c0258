"""The tables that the benchmarks load."""

import csv
import io
import json

import pyarrow.parquet as pq

from benchmarks import table_contenders


def written(kind, rows):
    file = io.BytesIO()
    table_contenders.WRITERS[kind](file, rows)
    file.seek(0)
    return file


def test_all_kinds_of_table_hold_the_same_rows(monkeypatch):
    monkeypatch.setattr(table_contenders, "GROUPS", 3)
    monkeypatch.setattr(table_contenders, "ROWS_AT_ONCE", 2)
    table = pq.ParquetFile(written("parquet", 5))
    of_parquet = [{"id": str(row["id"]), "text": row["text"]} for row in table.read().to_pylist()]
    of_csv = list(csv.DictReader(io.TextIOWrapper(written("csv", 5))))
    of_lines = [json.loads(line) for line in written("jsonl", 5)]

    assert table.num_row_groups == 3
    assert of_parquet == of_csv == [{**row, "id": str(row["id"])} for row in of_lines]
