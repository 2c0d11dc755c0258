"""Files of every form become tasks, from the bucket to Label Studio."""

import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ls_pipeline.domain.errors import LabelStudioUnavailableError
from ls_pipeline.engine import import_queue, reading
from tests.bench import RESULT
from tests.engine.test_load import Wrapped

CSV = b"text\na\nb\n"


def parquet(rows, **options):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, **options)
    return file.getvalue()


def texts(bench):
    return {place: data["text"] for place, data in bench.tasks.items()}


def test_files_of_each_form_are_loaded(bench):
    bench.put("a.csv", CSV)
    bench.put("b.parquet", parquet([{"text": "a"}, {"text": "b"}]))
    bench.put("c.csv.gz", gzip.compress(CSV))
    bench.put("part-00000", b'{"text": "a"}\n{"text": "b"}\n')
    done = bench.load()

    assert set(texts(bench).values()) == {"a", "b"}
    assert (done.tasks_created, bench.reasons, list(done.notes)) == (8, {}, [])


@pytest.mark.parametrize("key", ["lines.json", "part-00000"])
def test_json_object_that_becomes_json_lines_keeps_its_task(bench, key):
    bench.set(on_delete="delete")
    bench.put(key, b'{"text": "a"}\n')
    bench.load()
    bench.app.annotate(bench.task_id(key), RESULT)
    before = bench.task_id(key)
    bench.put(key, b'{"text": "a"}\n{"text": "b"}\n')
    done = bench.load()

    assert texts(bench) == {(key, 0): "a", (key, 1): "b"}
    assert (bench.task_id(key), done.tasks_created, done.tasks_deleted) == (before, 1, 0)


def test_edited_row_of_a_table_keeps_its_task(bench):
    bench.set(on_delete="delete", row_key="id")
    bench.put("a.csv", b"id,text\n1,a\n2,b\n")
    bench.load()
    before = bench.task_id("a.csv", 1)
    bench.put("a.csv", b"id,text\n2,B\n1,a\n")
    done = bench.load()

    assert texts(bench) == {("a.csv", 0): "a", ("a.csv", 1): "B"}
    assert (bench.task_id("a.csv", 1), done.tasks_updated) == (before, 1)


def test_rejections_name_the_row(bench):
    bench.put("a.csv", b'text,n\n"x\ny",1\nb\nc,3\n')
    bench.load()

    assert bench.reasons == {("a.csv", 1): "The row has 1 cell; the header has 2."}
    assert texts(bench) == {("a.csv", 0): "x\ny", ("a.csv", 2): "c"}


def test_text_is_one_task_if_the_format_says_so(bench):
    bench.put("a.txt", b"one\ntwo")
    done = bench.load()
    assert "Nothing is loaded: 1 object, such as s3://bucket/a.txt" in done.notes[-1]
    bench.set(format="text")
    bench.load()

    assert (texts(bench), bench.reasons) == ({("a.txt", 0): "one\ntwo"}, {})


def test_other_column_map_retries_the_quarantine(bench):
    bench.put("a.csv", b"Body\na\n")
    bench.load()
    assert "the task lacks; it has 'Body'" in bench.reasons["a.csv", 0].replace("which ", "")
    bench.set(column_map={"Body": "text"})
    bench.load()

    assert (texts(bench), bench.reasons) == ({("a.csv", 0): "a"}, {})


def test_nothing_is_said_of_unknown_forms_if_others_load(bench):
    bench.put("a.png", b"\x89PNG")
    bench.put("a.csv", CSV)

    assert list(bench.load().notes) == []
    assert list(bench.reasons) == [("a.png", None)]


@pytest.mark.parametrize("key", ["a.csv", "a.parquet"])
def test_killed_load_goes_on_where_it_stopped(bench, monkeypatch, key):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 10)
    monkeypatch.setattr(reading, "IN_MEMORY", 0)
    rows = [{"text": str(n)} for n in range(95)]
    csv = "\n".join(["text", *(row["text"] for row in rows)]).encode()
    bench.put(key, csv if key == "a.csv" else parquet(rows, row_group_size=10))
    batches = 4

    def import_tasks(*args):
        nonlocal batches
        batches -= 1
        if batches < 0:
            raise LabelStudioUnavailableError("gone")
        return bench.app.import_tasks(*args)

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=import_tasks))
    built = []
    original = reading.parse_tasks

    def parse_tasks(*args, **options):
        for item in original(*args, **options):
            built.append(item.position)
            yield item

    monkeypatch.setattr(reading, "parse_tasks", parse_tasks)
    bench.load()

    assert texts(bench) == {(key, n): str(n) for n in range(95)}
    assert built == list(range(40, 95))
    assert bench.load().tasks_updated == 0


def test_large_table_is_read_from_a_file_that_is_closed(bench, monkeypatch):
    monkeypatch.setattr(reading, "IN_MEMORY", 4)
    files = []

    def get(key, version=""):
        raise AssertionError(key)

    def download(stored, file):
        files.append(file)
        bench.bucket.download(stored, file)

    for n in range(3):
        bench.put(f"{n}.csv", CSV)
        bench.put(f"{n}.parquet", parquet([{"text": "a"}]))
    bench.load(bucket=Wrapped(bench.bucket, get=get, download=download))

    assert len(bench.tasks) == 9
    assert [file.closed for file in files] == [True] * 6


def test_files_of_a_run_that_fails_are_closed(bench, monkeypatch):
    monkeypatch.setattr(reading, "IN_MEMORY", 4)
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 2)
    files = []

    def download(stored, file):
        files.append(file)
        bench.bucket.download(stored, file)

    def fail(*_):
        raise LabelStudioUnavailableError("gone")

    for n in range(5):
        bench.put(f"{n}.csv", CSV)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(
            bucket=Wrapped(bench.bucket, download=download),
            app=Wrapped(bench.app, import_tasks=fail),
        )

    assert [file.closed for file in files] == [True] * len(files)
