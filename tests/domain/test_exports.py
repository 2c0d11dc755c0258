import io
import json

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ls_pipeline.domain.completions import completion
from ls_pipeline.domain.exports import (
    annotations_key,
    annotations_parquet,
    annotations_schema,
    completion_key,
    is_completion_key,
    json_document,
)


def labeled(number, *results, origin="s3://b/a"):
    meta = {"ls_pipeline": {"connection": "c", "uri": origin, "version": "v", "row": 2}}
    annotations = [
        {
            "id": 10 * number + n,
            "result": result,
            "was_cancelled": False,
            "ground_truth": True,
            "completed_by": 1,
            "lead_time": 2.5,
            "created_at": "2026-01-01T00:00:00.123456Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }
        for n, result in enumerate(results)
    ]
    return completion(
        {
            "id": number,
            "data": {"text": "ä"},
            "meta": meta if origin else None,
            "updated_at": "2026-01-02T00:00:00.000000Z",
            "annotations": annotations,
        }
    )


def table(completions):
    return pq.read_table(io.BytesIO(annotations_parquet(completions)))


@pytest.mark.parametrize(("prefix", "key"), [("", "7.json"), ("a", "a/7.json"), ("a/", "a/7.json")])
def test_completion_key_lies_in_the_prefix(prefix, key):
    assert (completion_key(prefix, 7), is_completion_key(prefix, key)) == (key, True)


def test_other_keys_are_no_completions():
    keys = ("a/x.json", "a/b/7.json", "7.json", "a/7.json.bak", annotations_key("a"))

    assert not any(is_completion_key("a", key) for key in keys)


def test_document_is_the_completion_as_json():
    one = labeled(1, [{"value": {"choices": ["ja"]}}])

    assert json.loads(json_document(one)) == one.document


def test_table_has_a_row_an_annotation_with_its_verbatim_result():
    results = [[{"value": {"choices": ["ja", "☃"]}}], []]
    rows = table([labeled(1, *results)]).to_pylist()

    assert [json.loads(row["result"]) for row in rows] == results


def test_table_leads_back_to_the_object():
    row = table([labeled(1, [])]).to_pylist()[0]

    assert (row["object_uri"], row["object_version"], row["object_row"]) == ("s3://b/a", "v", 2)


def test_table_has_no_origin_for_a_task_that_was_not_loaded():
    row = table([labeled(1, [], origin="")]).to_pylist()[0]

    assert (row["object_uri"], row["object_row"]) == (None, None)


def test_table_has_the_same_schema_for_no_rows():
    assert table([]).schema.equals(annotations_schema(), check_metadata=True)


def test_label_types_read_together_lose_nothing(tmp_path):
    choices = [{"type": "choices", "value": {"choices": ["a"]}}]
    boxes = [{"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["b"]}}]
    for number, result in enumerate((choices, boxes)):
        (tmp_path / f"{number}.parquet").write_bytes(annotations_parquet([labeled(number, result)]))
    rows = ds.dataset(tmp_path).to_table().to_pylist()

    assert [json.loads(row["result"]) for row in rows] == [choices, boxes]


def test_table_is_the_same_bytes_for_the_same_completions_in_any_order():
    some = [labeled(1, []), labeled(2, [], [])]

    assert annotations_parquet(some) == annotations_parquet(some[::-1])
