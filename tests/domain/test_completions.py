from ls_pipeline.domain.completions import belongs_to, canonical_json, parse_completion, sha256_hex
from ls_pipeline.domain.tasks import Origin

TASK = {
    "id": 5,
    "data": {"text": "a"},
    "meta": {"ls_pipeline": {"connection": "c", "uri": "s3://b/a", "version": "v", "row": 0}},
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-02T00:00:00.000000Z",
    "annotations": [
        {"id": 9, "result": [], "was_cancelled": True, "created_ago": "2 days"},
        {"id": 8, "result": [{"type": "choices"}], "was_cancelled": False},
    ],
    "draft_exists": True,
    "predictions": [],
}


def test_completion_is_the_export_form_without_relative_times():
    document = parse_completion(TASK).document

    assert [annotation["id"] for annotation in document["annotations"]] == [8, 9]
    assert (document["total_annotations"], document["cancelled_annotations"]) == (1, 1)
    assert "created_ago" not in document["annotations"][1]
    assert "draft_exists" not in document


def test_digest_does_not_move_with_the_time_of_change_alone():
    later = parse_completion({**TASK, "updated_at": "2026-01-03T00:00:00.000000Z"})

    assert later.digest == parse_completion(TASK).digest


def test_digest_moves_with_a_label():
    relabeled = {**TASK, "annotations": TASK["annotations"][:1]}

    assert parse_completion(relabeled).digest != parse_completion(TASK).digest


def test_digest_does_not_depend_on_the_order_of_keys():
    assert sha256_hex(canonical_json({"a": 1, "b": 2})) == sha256_hex(
        canonical_json({"b": 2, "a": 1})
    )


def test_a_connection_exports_its_own_tasks_and_unclaimed_ones():
    own, other = Origin("c", "u", "v", 0), Origin("d", "u", "v", 0)

    assert [belongs_to("c", origin) for origin in (own, None, other)] == [True, True, False]
