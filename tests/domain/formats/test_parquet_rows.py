"""Rows of Parquet files."""

import datetime as dt
import decimal
import io
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.formats import parquet_rows
from ls_pipeline.domain.formats.choice import Reading
from ls_pipeline.domain.formats.objects import parse_tasks
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.tasks import LARGEST_ROW, Rejection, Task

ANY = LabelConfig("")


def written(table, **options):
    table = table if isinstance(table, pa.Table) else pa.table(table)
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def read(table, is_loaded=lambda _: False, **params):
    body = table if isinstance(table, bytes) else written(table)
    return list(parse_tasks("a.parquet", body, ANY, Reading(**params), is_loaded))


def data(table, **params):
    return [item.data for item in read(table, **params)]


def test_nested_columns_stay_nested():
    kind = pa.map_(pa.string(), pa.int64())
    table = {
        "s": [{"a": 1, "b": [{"c": "x"}]}],
        "l": [[1, None, 2]],
        "m": pa.array([[("k", 1)]], kind),
    }

    assert data(table) == [{"s": {"a": 1, "b": [{"c": "x"}]}, "l": [1, None, 2], "m": {"k": 1}}]


def test_values_that_json_lacks_become_texts():
    utc = dt.timezone.utc
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=utc)
    table = {
        "ts": pa.array([moment], pa.timestamp("ns", "UTC")),
        "day": [moment.date()],
        "price": [decimal.Decimal("1.50")],
        "took": [dt.timedelta(minutes=1)],
        "id": pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
        "kind": pa.array(["x"]).dictionary_encode(),
        "half": pa.array([1.5], pa.float32()),
    }

    assert data(table) == [
        {
            "ts": "2026-01-02T03:04:05+00:00",
            "day": "2026-01-02",
            "price": "1.50",
            "took": 60.0,
            "id": str(uuid.UUID(int=1)),
            "kind": "x",
            "half": 1.5,
        }
    ]


def test_null_columns_and_fields_are_left_out():
    assert data({"a": ["x", None], "s": [{"b": 1, "c": None}, {"b": None, "c": 2}]}) == [
        {"a": "x", "s": {"b": 1}},
        {"s": {"c": 2}},
    ]


def test_label_studio_form_keeps_its_predictions():
    rows = [
        {
            "data": {"text": "a"},
            "predictions": [{"score": 0.5, "result": [{"value": {"choices": ["A"]}}]}],
        },
        {"data": {"text": "b"}, "predictions": None},
    ]
    first, second = read(pa.Table.from_pylist(rows))

    assert (first.data, first.predictions) == (rows[0]["data"], rows[0]["predictions"])
    assert (second.data, second.predictions) == ({"text": "b"}, [])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [b"x"]}, "has the type binary, which JSON can't hold. Leave it out"),
        ({"a": [{"b": b"x"}]}, "'a' has the type binary"),
        ({"a": pa.array([], pa.string())}, "The table has no rows."),
        (b"PAR1 and nothing else", "The Parquet file can't be read"),
        (b"text\na\n", "The Parquet file can't be read"),
        (b"", "The Parquet file can't be read"),
        (pa.table([["x"], ["y"]], names=["a", "a"]), "Two columns are called 'a'."),
        (pa.table([["x"]], names=[""]), "Column 1 has no name."),
    ],
)
def test_table_is_rejected_with_its_reason(table, message):
    (rejection,) = read(table)

    assert rejection.position is None
    assert message in rejection.reason


def test_bad_value_rejects_its_row_only():
    bad_text = pa.array([b"\xff", b"b", b"c"]).view(pa.string())
    number = pa.array([1.0, float("nan"), 2.0])
    first, second, third = read({"text": bad_text, "n": number})

    assert (first.position, second) == (0, Rejection(1, "NaN is not JSON."))
    assert "'text' can't be read" in first.reason
    assert third == Task(2, {"text": "c", "n": 2.0})


def test_row_that_is_too_large_is_rejected_among_its_neighbours():
    first, bad, last = read({"a": ["x", "y" * LARGEST_ROW, "z"]})

    assert (first.position, last.position) == (0, 2)
    assert "at most 8,388,608 are read" in bad.reason


def test_text_that_many_rows_share_takes_bounded_memory():
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), ["x" * 2**22])
    rows = parse_tasks("a", written({"text": text}, store_schema=False), ANY)
    before = pa.total_allocated_bytes()
    first = next(rows)

    assert len(first.data["text"]) == 2**22
    assert pa.total_allocated_bytes() - before < 100 * 2**20


def test_list_of_a_shared_category_is_rejected_before_it_is_built():
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 41, pa.int32()), ["x" * 2**20])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 41], pa.int32()), texts)
    small, bad = read({"a": lists})

    assert small.data == {"a": ["x" * 2**20]}
    assert bad.reason == "The row has 41,943,204 bytes; at most 8,388,608 are read."


def test_sizes_of_large_rows_are_their_own():
    kind = pa.map_(pa.string(), pa.list_(pa.string()))
    rows = [[("k", ["x" * 2**20])] for _ in range(20)]

    table = {"m": pa.array(rows, kind), "s": [{"a": "y" * 2**20}] * 20}
    assert [type(row) for row in read(table)] == [Task] * 20


def test_table_that_is_compressed_too_much_is_refused():
    table = {"a": ["x" * 100_000 for _ in range(1000)]}
    (rejection,) = read(written(table, use_dictionary=False, compression="zstd"))

    assert "A row group has 100," in rejection.reason


def test_column_map_renames_and_leaves_out():
    table = {"Body": ["x"], "picture": [b"1"], "a.b": ["y"], "a": ["z"]}
    column_map = {"Body": "text", "picture": "", "a": None}

    assert data(table, column_map=column_map) == [{"text": "x", "a.b": "y"}]


def test_groups_of_loaded_rows_are_not_read(monkeypatch):
    body = written({"a": [str(n) for n in range(10)]}, row_group_size=3)
    groups = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(table, *args, row_groups, **options):
        groups.extend(row_groups)
        return original(table, *args, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    rows = read(body, lambda position: position < 4)

    assert [row.position for row in rows] == [4, 5, 6, 7, 8, 9]
    assert groups == [1, 2, 3]


def test_damaged_table_is_read_up_to_the_damage():
    body = bytearray(written({"a": [str(n) for n in range(3000)]}, row_group_size=1000))
    body[len(body) // 2 : len(body) // 2 + 200] = bytes(200)
    *rows, last = read(bytes(body))

    assert len(rows) >= 1000
    assert last.position is None
    assert "The Parquet file can't be read" in last.reason


JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("aé\0\n", max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["text", "x", "y"]), JSON, min_size=1), st.integers(1, 5))
def test_table_has_the_rows_that_were_written(row, count):
    parquet = written(pa.Table.from_pylist([row] * count), row_group_size=2)

    assert data(parquet) == [row] * count


@settings(derandomize=True)  # Arrow aborts the process on some damage of its own
@given(st.binary(max_size=50), st.integers(0, 900))
def test_damage_raises_nothing(damage, at):
    kinds = pa.array(["x", "y"] * 5).dictionary_encode()
    body = written({"a": ["x"] * 10, "b": [[1]] * 10, "c": kinds})
    read(body[:at] + damage + body[at + len(damage) :])


def test_batches_have_few_rows_if_rows_are_large(monkeypatch):
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", 10)

    assert len(read({"a": ["x" * 100] * 3})) == 3
