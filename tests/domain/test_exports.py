import json

import pytest

from ls_pipeline.domain.exports import (
    completion_key,
    is_completion_key,
    is_written_key,
    json_document,
)
from ls_pipeline.domain.snapshot.manifest import latest_key
from tests.domain.snapshot.test_tables import labeled


@pytest.mark.parametrize(("prefix", "key"), [("", "7.json"), ("a", "a/7.json"), ("a/", "a/7.json")])
def test_completion_key_is_in_the_prefix(prefix, key):
    assert (completion_key(prefix, 7), is_completion_key(prefix, key)) == (key, True)


def test_other_keys_are_not_completions():
    keys = ("a/x.json", "a/b/7.json", "7.json", "a/7.json.bak", latest_key("a"))

    assert not any(is_completion_key("a", key) for key in keys)


def test_half_of_a_surrogate_pair_survives_the_document():
    completion = labeled(1, [], data={"text": "\ud800 ä"})

    assert json.loads(json_document(completion)) == completion.document


def test_training_data_is_written_too():
    assert is_written_key("a", "a/training_data/snapshots/1/tasks/part-0.parquet")
    assert not is_written_key("a", "training_data/latest.json")


def test_document_is_the_completion_as_json():
    completion = labeled(1, [{"value": {"choices": ["ja"]}}])

    assert json.loads(json_document(completion)) == completion.document
