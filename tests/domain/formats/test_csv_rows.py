"""Rows of CSV and TSV files."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.formats.choice import Reading
from ls_pipeline.domain.formats.objects import parse_tasks
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.tasks import LARGEST_ROW, Rejection, Task

ANY = LabelConfig("")


def read(body, is_loaded=lambda _: False, **params):
    body = body if isinstance(body, bytes) else body.encode()
    return list(parse_tasks("a.csv", body, ANY, Reading(**params), is_loaded))


def data(body, **params):
    return [item.data for item in read(body, **params)]


def reason(body, **params):
    (rejection,) = read(body, **params)
    assert rejection.position is None
    return rejection.reason


def test_cells_stay_texts():
    assert data('id,n,j,e\n007,1.50,"{""a"": 1}",\n') == [
        {"id": "007", "n": "1.50", "j": '{"a": 1}', "e": ""}
    ]


def test_rows_are_counted_not_lines():
    body = 'text\n"one\ntwo"\n\n"three"\n'

    assert read(body) == [Task(0, {"text": "one\ntwo"}), Task(1, {"text": "three"})]


def test_semicolons_are_found_in_the_header():
    assert data("text;n\na,b;1\n") == [{"text": "a,b", "n": "1"}]


def test_ragged_row_is_rejected_among_its_neighbours():
    assert read("a,b\n1,2\n3\n4,5,6\n7,8\n") == [
        Task(0, {"a": "1", "b": "2"}),
        Rejection(1, "The row has 1 cell; the header has 2."),
        Rejection(2, "The row has 3 cells; the header has 2."),
        Task(3, {"a": "7", "b": "8"}),
    ]


def test_row_that_is_not_utf8_or_csv_is_rejected_among_its_neighbours():
    assert read(b'a,b\n1,K\xf6ln\n"2"x,y\n3,K\xc3\xb6ln\n') == [
        Rejection(0, "'b' is not UTF-8."),
        Rejection(1, "The row can't be read: ',' expected after '\"'."),
        Task(2, {"a": "3", "b": "Köln"}),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The object is empty."),
        (b"\n \n", "The object is empty."),
        (b"a,b\n", "The table has no rows."),
        (b"a,b,a\n1,2,3\n", "Two columns are called 'a'. Rename one of them."),
        (b",b\n1,2\n", "Column 1 has no name. Name it, or leave it out"),
        (b"K\xf6ln\n1\n", "The name of column 1 is not UTF-8."),
        (b"," * 200_000 + b"\n1\n", "The table has 200,001 columns; at most 125,000 are read."),
        ("a\n1\n".encode("utf-16"), "The object is UTF-16"),
    ],
)
def test_table_is_rejected_with_its_reason(body, message):
    assert message in reason(body)


def test_quotation_mark_that_is_not_closed_ends_the_table():
    first, last = read('a,b\n1,2\n"3,4\n5,6\n')

    assert first.position == 0
    assert last == Rejection(None, "A quotation mark in row 1 is not closed.")


def test_row_that_is_too_large_ends_the_table():
    first, last = read(f'a\n1\n"{"x" * LARGEST_ROW}"\n2\n')

    assert first.position == 0
    assert "over 8,388,608 bytes" in last.reason
    assert "It is row 1." in last.reason


def test_column_map_renames_and_leaves_out():
    column_map = {"Body": "text", "": "", "b": None}

    assert data(",Body,b,c\n0,x,y,z\n", column_map=column_map) == [{"text": "x", "c": "z"}]
    assert "The columns 'a' and 'b' both become 'b'" in reason("a,b\n1,2\n", column_map={"a": "b"})


def test_loaded_rows_are_passed_over():
    assert [item.position for item in read("a\n0\n1\n2\n", lambda n: n < 2)] == [2]


def test_memory_does_not_grow_with_the_table():
    body = b"text\n" + b"a cell of some length\n" * 100_000
    tracemalloc.start()
    for _ in parse_tasks("a.csv", body, ANY):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(body) / 2


CELLS = st.text('ab,;"\n\r\t é', max_size=4)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from([",", "\t"]))
def test_table_has_the_rows_that_were_written(rows, delimiter):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("x", "y"), *rows])
    read_again = data(file.getvalue(), format="tsv" if delimiter == "\t" else "csv")

    assert [(row["x"], row["y"]) for row in read_again] == rows
