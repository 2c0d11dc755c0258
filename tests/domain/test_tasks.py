import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain import rows
from ls_pipeline.domain.formats.choice import LARGEST_OBJECT, Reading
from ls_pipeline.domain.formats.objects import parse_tasks
from ls_pipeline.domain.label_config import DataKey, LabelConfig
from ls_pipeline.domain.tasks import (
    LARGEST_ROW,
    MOST_PARTS,
    MOST_RESULTS,
    Origin,
    Rejection,
    Task,
    blob_task,
    parse_origin,
)

TEXT = LabelConfig('<View><Text name="t" value="$text"/></View>')


def read(content, key="a.json", label_config=TEXT):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(parse_tasks(key, body, label_config))


def reason(content, **how):
    (rejection,) = read(content, **how)
    assert isinstance(rejection, Rejection)
    return rejection.reason


def test_bare_object_is_a_task():
    assert read({"text": "a"}) == [Task(0, {"text": "a"})]


def test_label_studio_form_keeps_meta_predictions_and_annotations():
    (task,) = read(
        {
            "data": {"text": "a"},
            "meta": {"x": 1},
            "predictions": [{"result": [], "score": 0.5}],
            "annotations": [{"id": 7, "unique_id": "u", "result": [], "lead_time": 3.0}],
        }
    )

    assert (task.meta, task.predictions, task.annotations) == (
        {"x": 1},
        [{"result": [], "score": 0.5}],
        [{"result": [], "lead_time": 3.0}],
    )


def test_completions_are_read_as_annotations():
    (task,) = read(
        {
            "data": {"text": "a"},
            "id": 3,
            "completions": [{"id": 3001, "result": [], "skipped": True, "created_at": 1590000000}],
        }
    )

    assert task.annotations == [{"result": [], "was_cancelled": True}]


def test_list_holds_a_task_per_row():
    assert [task.position for task in read([{"text": "a"}, {"data": {"text": "b"}}])] == [0, 1]


def test_jsonl_holds_a_task_per_line_and_skips_empty_ones():
    body = b'{"text": "a"}\n\n{"text": "b\xe2\x80\xa8c"}\n'

    assert [(task.position, task.data) for task in read(body, key="a.JSONL")] == [
        (0, {"text": "a"}),
        (2, {"text": "b\u2028c"}),
    ]


def test_bad_line_is_rejected_and_its_neighbours_are_tasks():
    first, bad, last = read(b'{"text": "a"}\n{"text": \n{"text": "c"}', key="a.jsonl")

    assert (first.position, bad.position, last.position) == (0, 1, 2)
    assert "Not JSON" in bad.reason


def test_bad_row_is_rejected_and_its_neighbours_are_tasks():
    first, bad, last = read([{"text": "a"}, 7, {"text": "c"}])

    assert (first.position, bad.reason, last.position) == (
        0,
        "A task is a JSON object, not a number.",
        2,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xff\xfe{", "UTF-16"),
        (b'{"text": "\xff"}', "not UTF-8: byte 10"),
        (b"hello", "Not JSON"),
        (b'{"text": NaN}', "NaN is not JSON"),
        (b'{"text": 1e999}', "too large"),
        (b'{"text": "a", "text": "b"}', "'text' appears twice"),
        (b'{"text": 18446744073709551616}', "64 bits"),
        (b'{"text": ' + b"9" * 5000 + b"}", "Not JSON that can be stored"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text":' + b"[" * 1000 + b"]" * 1000 + b"}", "nested"),
        (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b"[]", "empty list"),
        (b"null", "not null"),
    ],
)
def test_rejection_names_its_reason(content, message):
    assert message in reason(content)


def test_missing_key_is_named_with_the_present_ones():
    assert reason({"txt": "a"}) == (
        "The label config shows 'text', which the task lacks; it has 'txt'."
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"meta": "x"},
        {"annotations": {}},
        {"annotations": [7]},
        {"predictions": [{"result": "x"}]},
        {"completions": "x"},
    ],
)
def test_wrong_shape_around_the_data_is_rejected(extra):
    assert "`" in reason({"data": {"text": "a"}, **extra})


def test_blob_is_shown_by_its_uri():
    assert blob_task("gs://b/a b.png", DataKey("image")) == Task(0, {"image": "gs://b/a b.png"})


def test_object_over_the_limit_is_not_read():
    reading = Reading()

    assert reading.size_rejection("a.json", LARGEST_OBJECT) is None
    assert "Split it" in reading.size_rejection("a.json", LARGEST_OBJECT + 1).reason
    assert "set the param format" in reading.size_rejection("a", LARGEST_OBJECT + 1).reason


def test_origin_survives_meta():
    origin = Origin("c", "s3://b/a", "v1", 3)
    body = Task(3, {"text": "a"}, {"x": 1}).as_import(origin)

    assert (parse_origin(body["meta"]), body["meta"]["x"]) == (origin, 1)


@pytest.mark.parametrize("meta", [None, [], {}, {"ls_pipeline": 7}, {"ls_pipeline": {"uri": "x"}}])
def test_foreign_meta_has_no_origin(meta):
    assert parse_origin(meta) is None


def test_prediction_ids_of_an_export_are_left_out():
    predictions = [286, {"result": []}, 287]
    (task,) = read({"data": {"text": "a"}, "predictions": predictions, "drafts": [3]})

    assert (task.predictions, task.prediction_ids) == ([{"result": []}], 2)


@pytest.mark.parametrize("name", ["predictions", "annotations"])
def test_predictions_and_annotations_beside_bare_data_are_refused(name):
    assert reason({"text": "a", name: [{"result": []}]}) == (
        f"`{name}` needs the task's data beside it, in `data`."
    )


@pytest.mark.parametrize("value", ["none yet", [], ["cat", "dog"], [1], None, [{"label": "cat"}]])
def test_data_may_have_a_key_called_annotations(value):
    data = {"text": "a", "annotations": value}

    assert read(data) == [Task(0, data)]


def test_predictions_that_the_label_config_shows_are_data():
    shown = LabelConfig('<View><List name="l" value="$predictions"/></View>')
    data = {"predictions": [{"id": 1, "result": "a"}]}

    assert read(data, label_config=shown) == [Task(0, data)]


# -- rows of large objects --------------------------------------------------------------------

TEXTS = st.text(st.sampled_from('ab"\\[]{},:\n é😀\u2028'), max_size=5)
SCALARS = st.sampled_from([None, True, 0, -(2**63), 2**63 - 1, 0.1, -0.0, 1e300])
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
TASKS = st.dictionaries(st.sampled_from(["text", "data", "meta", "x"]), VALUES)
KEYS = st.sampled_from(["a.json", "a.jsonl"])
PIECES = st.sampled_from([*'[]{}",:\\ \n\t', "\\u", "d800", "1", "-", "e9", "true", "NaN", "é😀"])


@given(KEYS, st.binary() | st.lists(PIECES).map(lambda pieces: "".join(pieces).encode()))
def test_any_content_raises_nothing(key, body):
    items = read(body, key=key)

    assert all(isinstance(item, (Task, Rejection)) for item in items)


@given(st.lists(VALUES | TASKS, min_size=1, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_list_has_the_rows_that_json_has(values, indent, ascii_only):
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()

    spans = list(rows.elements(body))
    assert [json.loads(body[span.start : span.end]) for span in spans] == values
    assert [item.position for item in read(body)] == list(range(len(values)))


@given(st.lists(PIECES).map(lambda pieces: "[" + "".join(pieces)))
def test_list_is_rejected_as_a_whole_if_json_rejects_it(text):
    try:
        value = json.loads(text)
    except ValueError:
        value = []
    is_whole = any(item.position is None for item in read(text.encode()))

    assert is_whole == (value == [])


@given(st.lists(VALUES | TASKS, max_size=5))
def test_lines_are_the_rows_of_jsonl(values):
    body = "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()

    items = read(body or b" ", key="a.jsonl")

    assert [item.position for item in items if item.position is not None] == [*range(len(values))]


def test_row_that_is_too_large_is_rejected_among_its_neighbours():
    large = {"text": "x" * LARGEST_ROW}
    small, bad, last = read([{"text": "a"}, large, {"text": "c"}])

    assert (small.position, last.position) == (0, 2)
    assert bad == Rejection(1, "The row has 8,388,620 bytes; at most 8,388,608 are read.")


def test_row_of_too_many_parts_is_rejected_among_its_neighbours():
    first, bad, last = read([{"text": "a"}, {"text": [[]] * MOST_PARTS}, {"text": "c"}])

    assert (first.position, last.position) == (0, 2)
    assert bad.reason == "The row has 250,003 lists, objects and texts; at most 250,000 are read."


def test_brackets_and_quotation_marks_in_a_text_are_no_parts():
    (task,) = read({"text": '[{"' * MOST_PARTS})

    assert len(task.data["text"]) == 3 * MOST_PARTS


def test_prediction_with_too_many_results_is_rejected():
    prediction = {"result": [{}] * (MOST_RESULTS + 1)}

    assert reason({"data": {"text": "a"}, "predictions": [prediction]}) == (
        "A prediction has 10,001 results; at most 10,000 are read."
    )


def test_bad_value_in_a_list_rejects_its_row_only():
    first, bad, last = read(b'[{"text": "a"}, {"text": NaN}, {"text": "c"}]')

    assert (first.position, bad, last.position) == (0, Rejection(1, "NaN is not JSON."), 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'[{"text": "a"},\n {"text" "b"}]', "Expecting ':' delimiter (line 2, column 10)"),
        ('[{"text": "ä😀"}, {"text": "b"'.encode(), "Expecting ',' delimiter (line 1, column 30)"),
        (b'[{"text": "a"}, ]', "Expecting value (line 1, column 17)"),
        (b'[{"text": "a"}] x', "Extra data (line 1, column 17)"),
        (b'[{"text": "a"}}', "Expecting ',' delimiter (line 1, column 15)"),
    ],
)
def test_list_that_is_broken_is_read_up_to_that_place(body, reason):
    first, last = read(body)

    assert first.position == 0
    assert last == Rejection(None, f"Not JSON: {reason}. The list was read up to row 0.")


def test_long_names_are_cut_in_reasons():
    assert len(reason({"x" * 10_000: 1})) < 200
    twice = b'{"%s": 1, "%s": 2}' % (b"x" * 10_000, b"x" * 10_000)
    assert len(reason(twice)) < 200


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("a.json", b"[" + b"1," * 50_000 + b"1]"),
        ("a.json", b"[" * 50_000),
        ("a.json", b'["' + rb"\"" * 100_000 + b'"]'),
        ("a.json", b" " * 200_000 + b"{}"),
        ("a.jsonl", b"1\n" * 50_000),
        ("a.jsonl", b"\n" * 200_000 + "é".encode()),
    ],
)
def test_memory_does_not_grow_with_the_rows(key, body):
    next(parse_tasks(key, b"1", TEXT))  # what is made once
    tracemalloc.start()
    for _ in parse_tasks(key, body, TEXT):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * len(body)


def test_key_that_appears_twice_among_many_is_found():
    keys = b",".join(b'"%d": 1' % n for n in range(100_000))

    assert "'99999' appears twice" in reason(b"{%s, %s}" % (keys, b'"99999": 1'))


def test_numbers_arrive_exactly():
    numbers = [1.0, 0.1, 1e300, 5e-324, -0.0, 2**63 - 1, -(2**63)]
    (task,) = read({"text": numbers})

    assert list(map(repr, task.data["text"])) == list(map(repr, numbers))
    assert math.copysign(1, task.data["text"][4]) == -1
