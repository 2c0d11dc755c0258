"""Which format an object has, by its params, its key and its content."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.formats import choice
from ls_pipeline.domain.formats.choice import Reading
from ls_pipeline.domain.formats.objects import UNKNOWN_FORM, parse_sidecar, parse_tasks
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.tasks import Rejection

TEXT = LabelConfig('<View><Text name="t" value="$text"/></View>')
LINES = b'{"text": "a"}\n{"text": "b"}\n'


def parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def read(key, body, **params):
    reading = Reading(text_key=TEXT.key("text"), **params)
    return list(parse_tasks(key, body, TEXT, reading))


def texts(key, body, **params):
    return [item.data["text"] for item in read(key, body, **params)]


def reason(key, body, **params):
    (rejection,) = read(key, body, **params)
    assert isinstance(rejection, Rejection)
    return rejection.reason


FILES = {
    "a.json": b'[{"text": "a"}, {"text": "b"}]',
    "b.json": LINES,
    "c.jsonl": LINES,
    "part-00000": LINES,
    "output.manifest": LINES,
    "000000_0": parquet([{"text": "a"}, {"text": "b"}]),
    "d.csv": b"text\na\nb\n",
    "e.TSV": b"text\tn\na\t1\nb\t2\n",
    "f.parquet": parquet([{"text": "a"}, {"text": "b"}]),
    "g.txt": b' [{"text": "a"},\n{"text": "b"}]',
}


@pytest.mark.parametrize("key", FILES)
def test_file_has_its_rows_plain_and_compressed_and_with_a_mark(key):
    body = FILES[key]
    is_binary = body.startswith(b"PAR1")
    variants = [body, gzip.compress(body), gzip.compress(gzip.compress(body))]
    if not is_binary:
        marked = b"\xef\xbb\xbf" + body
        variants += [marked, gzip.compress(marked)]

    assert [texts(key, variant) for variant in variants] == [["a", "b"]] * len(variants)
    assert texts(f"{key}.gz", gzip.compress(body)) == ["a", "b"]
    assert texts(key, io.BytesIO(body)) == ["a", "b"]


FORMATS = {"b": "jsonl", "d": "csv", "e": "tsv", "f": "parquet", "a": "json"}


@pytest.mark.parametrize("name", FORMATS)
def test_param_says_the_format_whatever_the_key_is(name):
    (body,) = (body for key, body in FILES.items() if key.startswith(f"{name}."))

    assert texts("notes.png", body, format=FORMATS[name]) == ["a", "b"]


def test_text_is_one_task():
    assert texts("a.html", b"<p>one\ntwo</p>", format="text") == ["<p>one\ntwo</p>"]
    assert texts("a.txt", gzip.compress(b"\xef\xbb\xbfone"), format="text") == ["one"]
    assert "not UTF-8" in reason("a.txt", b"K\xf6ln", format="text")


@pytest.mark.parametrize(
    "body",
    [b"a text", b"\x89PNG\r\n\x1a\n", b"<html/>", b"# heading", b"\xff\xd8\xff\xe0", b"text\na\n"],
)
def test_unknown_form_is_rejected_with_the_params_that_help(body):
    (rejection,) = read("a.md", body)

    assert (rejection.reason, rejection.is_unknown_form) == (UNKNOWN_FORM, True)
    assert all(f" {param}" in rejection.reason for param in ("format", "use_blob_urls", "exclude"))


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"text": "a"}', [0]),
        (b'{"text": "a"}\n\n', [0]),
        (b'{\n "text": "a"\n}\n', [0]),
        (b'{"text": "a",\n"n": {"b": "}"}}', [0]),
        (b'{"text": "\\"}\\n{"}\n{"text": "b"}', [0, 1]),
        (b'{"text": "a"}\r\n{"text": "b"}', [0, 1]),
        (b'{"text": "a"}\n{"text": \n{"text": "c"}', [0, 1, 2]),
        (b'\n{"text": "a"}\n\n{"text": "c"}', [1, 3]),
        (b'{"text": "a"} {"text": "b"}', [None]),
        (b'{\n"text": "a"\n}\n{\n"text": "b"\n}', [None]),
        (b'{"text": \n{"text": "b"}\n', [None]),
    ],
)
def test_one_json_value_is_json_and_more_in_lines_are_json_lines(body, rows):
    assert [item.position for item in read("a.json", body)] == rows


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text('ab{}[]"\\\n', max_size=5)), min_size=2)
)
def test_objects_in_lines_are_json_lines(values):
    body = "\n".join(json.dumps(value) for value in values).encode()

    assert len(read("a.json", body)) == len(values)


def test_decompressed_object_has_the_bound_of_others(monkeypatch):
    monkeypatch.setattr(choice, "LARGEST_OBJECT", 4000)

    assert "over 4,000 bytes when it is decompressed" in reason("a", gzip.compress(b" " * 5000))


def test_broken_gzip_is_rejected_after_the_rows_before():
    body = gzip.compress(b"text\n" + b"\n".join(b"%d" % n for n in range(10_000)))
    *rows, last = read("a.csv.gz", body[:-1000])

    assert rows
    assert last.position is None
    assert "The gzip data can't be read" in last.reason


def archive(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def write_tar(form, file):
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("a.json"), io.BytesIO())


PACKED = {
    "bzip2": bz2.compress(LINES),
    "xz": lzma.compress(LINES),
    "zstd": pa.compress(LINES, "zstd", asbytes=True),
    "ZIP, as Excel files are": archive(
        lambda file: zipfile.ZipFile(file, "w").writestr("a.json", LINES)
    ),
    "tar": archive(partial(write_tar, tarfile.PAX_FORMAT)),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("key", ["a.json", "a.jsonl", "a.csv", "a.parquet", "a"])
def test_object_that_is_packed_in_another_way_is_named(name, key):
    for body in (PACKED[name], gzip.compress(PACKED[name])):
        assert f"The object is packed with {name}. Unpack it" in reason(key, body)


def test_archive_of_gnu_tar_is_named():
    body = archive(partial(write_tar, tarfile.GNU_FORMAT))

    assert "The object is packed with tar. Unpack it" in reason("a.json", body)


def test_text_is_not_taken_for_an_archive():
    body = b'{"text": "' + b"c" * 247 + b'ustar 00  ustard"}'

    assert body[257:262] == b"ustar"
    assert len(texts("a.json", body)) == 1


def test_sidecar_may_be_compressed():
    body = b'{"text": "a"}'

    assert parse_sidecar(gzip.compress(body)) == parse_sidecar(body) == {"text": "a"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (gzip.compress(LINES)[:-9], "The gzip data can't be read"),
        (gzip.compress(b" " * (2**20 + 1)), "over 1,048,576 bytes when it is decompressed"),
    ],
    ids=["cut off", "large"],
)
def test_compressed_sidecar_that_can_not_be_read_is_rejected(body, words):
    with pytest.raises(NotATaskError, match=words):
        parse_sidecar(body)


def test_large_table_has_its_own_bound():
    reading = Reading()

    assert reading.size_rejection("a.csv.gz", choice.LARGEST_TABLE) is None
    assert reading.size_rejection("a.parquet", choice.LARGEST_TABLE + 1)
    assert Reading("parquet").size_rejection("a", choice.LARGEST_TABLE) is None
    assert reading.size_rejection("a.json", choice.LARGEST_OBJECT + 1)


@given(st.sampled_from([*FILES, "x"]), st.binary(), st.booleans())
def test_any_content_raises_nothing(key, body, is_gzip):
    for format_ in ("auto", "csv", "tsv", "text"):
        read(key, gzip.compress(body) if is_gzip else body, format=format_)
