import json
from datetime import datetime, timezone

import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.completions import parse_completion
from ls_pipeline.domain.snapshot.parts import (
    has_declared_schema,
    read_parquet,
    to_table,
    write_parquet,
)
from ls_pipeline.domain.snapshot.splits import SplitRule
from ls_pipeline.domain.snapshot.tables import (
    COLUMNS,
    TABLES,
    build_document,
    result_row,
    schema,
    table_rows,
)

RULE = SplitRule()


def labeled(number, *results, origin="s3://b/a", data=None, **fields):
    meta = {"ls_pipeline": {"connection": "c", "uri": origin, "version": "v", "row": 2}}
    annotations = [
        {
            "id": 10 * number + n,
            "result": result,
            "was_cancelled": False,
            "ground_truth": True,
            "completed_by": n + 1,
            "lead_time": 2.5,
            "created_at": "2026-01-01T00:00:00.123456Z",
            "updated_at": "2026-01-01T00:00:00Z",
            **fields,
        }
        for n, result in enumerate(results)
    ]
    return parse_completion(
        {
            "id": number,
            "data": data or {"text": "ä"},
            "meta": meta if origin else None,
            "updated_at": "2026-01-02T00:00:00.000000Z",
            "annotations": annotations,
        }
    )


def through_parquet(*completions):
    """Write completions as Parquet files, and read them back: rows by table."""
    rows = table_rows(completions, RULE)
    return {
        name: read_parquet(name, write_parquet(to_table(name, rows[name]))).to_pylist()
        for name in TABLES
    }


def restored(tables):
    """Return the documents that the tables hold."""
    return [
        build_document(
            task, [row for row in tables["annotations"] if row["task_id"] == task["task_id"]]
        )
        for task in tables["tasks"]
    ]


def without_time(completion):
    return {name: value for name, value in completion.document.items() if name != "updated_at"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=10,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | JSON,
        "type": st.sampled_from(["choices", "taxonomy", "rectanglelabels", "relation"]) | JSON,
        "from_name": st.text() | JSON,
        "score": st.floats() | JSON,
        "value": st.fixed_dictionaries(
            {},
            optional={
                "choices": st.lists(st.text()) | JSON,
                "taxonomy": st.lists(st.lists(st.text())) | JSON,
                "x": st.floats() | st.integers() | JSON,
                "points": st.lists(st.tuples(st.floats(), st.floats())) | JSON,
                "start": st.floats() | st.text() | JSON,
                "text": st.text() | JSON,
            },
        )
        | JSON,
        "meta": JSON,
    },
)


@pytest.mark.slow
@given(st.lists(st.lists(SHAPED | JSON, max_size=3), max_size=3), st.dictionaries(st.text(), JSON))
def test_annotations_survive_parquet(results, data):
    completion = labeled(1, *results, data=data)
    (back,) = restored(through_parquet(completion))

    assert json.dumps(back, sort_keys=True) == json.dumps(without_time(completion), sort_keys=True)


@pytest.mark.slow
@given(st.lists(SHAPED | JSON, max_size=4))
def test_each_result_has_its_verbatim_value(result):
    rows = through_parquet(labeled(1, result))["results"]
    values = [None if row["value"] is None else json.loads(row["value"]) for row in rows]

    assert json.dumps(values) == json.dumps(
        [item.get("value") if isinstance(item, dict) else None for item in result]
    )
    assert [row["result_index"] for row in rows] == list(range(len(result)))


def result(kind, value, **fields):
    return {"id": "r", "type": kind, "from_name": "c", "to_name": "t", "value": value, **fields}


BOX = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 5}
KINDS = {
    "choices": (result("choices", {"choices": ["a", "b"]}), {"labels": ["a", "b"]}),
    "taxonomy": (
        result("taxonomy", {"taxonomy": [["a", "b"], ["c"]]}),
        {"labels": ["a / b", "c"]},
    ),
    "rating": (result("rating", {"rating": 4}), {"number": 4.0, "labels": None}),
    "number": (result("number", {"number": 2.5}), {"number": 2.5}),
    "datetime": (result("datetime", {"datetime": "2026-01-01"}), {"labels": None}),
    "textarea": (result("textarea", {"text": ["a", "b"]}), {"text": ["a", "b"]}),
    "rectanglelabels": (
        result(
            "rectanglelabels",
            {**BOX, "rectanglelabels": ["car"]},
            original_width=640,
            original_height=480,
            image_rotation=0,
        ),
        {
            "labels": ["car"],
            "x": 10.0,
            "y": 20.0,
            "width": 30.0,
            "height": 40.0,
            "rotation": 5.0,
            "original_width": 640,
            "original_height": 480,
            "image_rotation": 0.0,
        },
    ),
    "rectangle": (result("rectangle", BOX), {"labels": None, "x": 10.0}),
    "ellipselabels": (
        result(
            "ellipselabels", {"x": 1, "y": 2, "radiusX": 3, "radiusY": 4, "ellipselabels": ["e"]}
        ),
        {"labels": ["e"], "radius_x": 3.0, "radius_y": 4.0},
    ),
    "polygonlabels": (
        result("polygonlabels", {"points": [[1, 2], [3, 4.5]], "polygonlabels": ["p"]}),
        {"labels": ["p"], "points": [[1.0, 2.0], [3.0, 4.5]]},
    ),
    "vectorlabels": (
        result("vectorlabels", {"vertices": [{"x": 1, "y": 2}], "vectorlabels": ["v"]}),
        {"labels": ["v"], "points": [[1.0, 2.0]]},
    ),
    "keypointlabels": (
        result("keypointlabels", {"x": 1, "y": 2, "width": 0.5, "keypointlabels": ["k"]}),
        {"labels": ["k"], "x": 1.0, "width": 0.5, "height": None},
    ),
    "brushlabels": (
        result("brushlabels", {"format": "rle", "rle": [0, 1], "brushlabels": ["b"]}),
        {"labels": ["b"]},
    ),
    "bitmasklabels": (
        result("bitmasklabels", {"imageDataURL": "data:", "bitmasklabels": ["b"]}),
        {"labels": ["b"]},
    ),
    "videorectangle": (
        result("videorectangle", {"sequence": [{"frame": 1}], "labels": ["v"]}),
        {"labels": ["v"]},
    ),
    "timelinelabels": (
        result("timelinelabels", {"ranges": [{"start": 1, "end": 2}], "timelinelabels": ["t"]}),
        {"labels": ["t"]},
    ),
    "audio": (
        result("labels", {"start": 1.5, "end": 2, "channel": 0, "labels": ["s"]}),
        {"labels": ["s"], "start": 1.5, "end": 2.0},
    ),
    "text": (
        result("labels", {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}),
        {"labels": ["PER"], "text": ["Anna"], "start": 0.0, "end": 4.0},
    ),
    "hypertextlabels": (
        result(
            "hypertextlabels",
            {
                "start": "/p[1]/text()[1]",
                "end": "/p[1]/text()[1]",
                "startOffset": 1,
                "endOffset": 3,
                "globalOffsets": {"start": 11, "end": 13},
                "hypertextlabels": ["h"],
            },
        ),
        {"labels": ["h"], "start": 11.0, "end": 13.0, "start_offset": 1, "end_offset": 3},
    ),
    "paragraphlabels": (
        result(
            "paragraphlabels",
            {"start": "1", "end": "2", "startOffset": 0, "endOffset": 5, "paragraphlabels": ["p"]},
        ),
        {"labels": ["p"], "start": 1.0, "end": 2.0, "start_offset": 0, "end_offset": 5},
    ),
    "timeserieslabels": (
        result(
            "timeserieslabels", {"start": 1, "end": 2, "instant": False, "timeserieslabels": ["t"]}
        ),
        {"labels": ["t"], "start": 1.0},
    ),
    "relation": (
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right", "labels": ["of"]},
        {"labels": ["of"], "from_id": "a", "to_id": "b", "direction": "right", "value": None},
    ),
    "pairwise": (result("pairwise", {"selected": "left"}), {"labels": ["left"]}),
    "ranker": (result("ranker", {"ranker": {"rank": ["a", "b"]}}), {"labels": None}),
    "per region": (
        result("choices", {**BOX, "choices": ["dirty"]}, parentID="p", item_index=1, score=0.5),
        {"labels": ["dirty"], "x": 10.0, "parent_id": "p", "item_index": 1, "score": 0.5},
    ),
    "unheard of": (result("hologram", {"depth": 3}), {"labels": None, "value": '{"depth":3}'}),
    "a mess": (
        result("choices", {"choices": "a", "x": "left", "points": [[1]], "start": 10**400}),
        {"labels": ["a"], "x": None, "points": None, "start": None},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_typed_columns_hold_what_kinds_of_results_share(kind):
    given_result, expected = KINDS[kind]
    (row,) = through_parquet(labeled(1, [given_result]))["results"]

    assert {name: row[name] for name in expected} == expected


def test_all_kinds_read_together_lose_nothing(tmp_path):
    for number, (item, _) in enumerate(KINDS.values()):
        rows = table_rows([labeled(number, [item])], RULE)["results"]
        (tmp_path / f"{number:03}.parquet").write_bytes(write_parquet(to_table("results", rows)))
    table = ds.dataset(tmp_path).to_table()

    assert has_declared_schema("results", table.schema)
    assert [None if text is None else json.loads(text) for text in table["value"].to_pylist()] == [
        item.get("value") for item, _ in KINDS.values()
    ]


@pytest.mark.parametrize("table", TABLES)
def test_schema_is_the_same_for_no_rows(table):
    assert has_declared_schema(
        table, read_parquet(table, write_parquet(to_table(table, []))).schema
    )


@pytest.mark.parametrize("table", TABLES)
def test_schema_describes_its_columns(table):
    assert list(COLUMNS[table]) == schema(table).names
    assert all(description for _, description in COLUMNS[table].values())


def test_rows_lead_back_to_object_annotator_and_time():
    tables = through_parquet(labeled(1, [result("choices", {"choices": ["a"]})]))
    lineage = {
        "task_id": 1,
        "object_uri": "s3://b/a",
        "object_version": "v",
        "object_row": 2,
        "split": tables["tasks"][0]["split"],
    }
    annotator = {"annotation_id": 10, "completed_by": 1, "lead_time": 2.5, "ground_truth": True}

    assert lineage.items() <= tables["tasks"][0].items()
    assert {**lineage, **annotator}.items() <= tables["annotations"][0].items()
    assert {**lineage, **annotator}.items() <= tables["results"][0].items()
    assert tables["annotations"][0]["created_at"] == datetime(
        2026, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc
    )


def test_task_that_was_not_loaded_has_no_origin():
    (row,) = through_parquet(labeled(1, [], origin=""))["tasks"]

    assert (row["object_uri"], row["object_row"]) == (None, None)


def test_results_name_who_disagreed():
    same, other = result("choices", {"choices": ["a"]}), result("choices", {"choices": ["b"]})
    tables = through_parquet(labeled(1, [same], [same], [other]))

    assert [row["disagreed_by"] for row in tables["results"]] == [[3], [3], [1, 2]]
    assert tables["tasks"][0]["agreement"] == pytest.approx(1 / 3)


def test_single_annotator_has_no_disagreement():
    tables = through_parquet(labeled(1, [result("choices", {"choices": ["a"]})]))

    assert (tables["results"][0]["disagreed_by"], tables["tasks"][0]["agreement"]) == (None, None)


def test_skipped_annotations_are_rows_that_disagree_with_none():
    a, b = result("choices", {"choices": ["a"]}), result("choices", {"choices": ["b"]})
    completion = labeled(1, [a], [b])
    completion.annotations[1]["was_cancelled"] = True
    tables = through_parquet(completion)

    assert (tables["tasks"][0]["annotations"], tables["tasks"][0]["skipped"]) == (1, 1)
    assert [row["was_cancelled"] for row in tables["results"]] == [False, True]
    assert [row["disagreed_by"] for row in tables["results"]] == [None, None]


def test_same_completions_in_any_order_are_the_same_bytes():
    some = [labeled(1, []), labeled(2, [], [])]
    one, other = (table_rows(order, RULE)["annotations"] for order in (some, some[::-1]))

    assert write_parquet(to_table("annotations", one)) == write_parquet(
        to_table("annotations", other)
    )


def test_invalid_numbers_are_null():
    row = result_row(0, result("number", {"number": True, "x": float("nan"), "y": "1e999"}))

    assert (row["number"], row["x"], row["y"]) == (None, None, None)
