"""What comes from outside becomes a typed value, or counts as nothing; it never raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.completions import parse_completion
from ls_pipeline.domain.events import LARGEST_BODY, BucketEvent, Message, parse_message
from ls_pipeline.domain.exports import json_document
from ls_pipeline.domain.snapshot.parts import tally_part, to_table, write_parquet
from ls_pipeline.domain.snapshot.splits import SplitRule
from ls_pipeline.domain.snapshot.tables import TABLES, build_document, table_rows
from ls_pipeline.domain.target_mark import TargetMark
from ls_pipeline.domain.tasks import LAST_ROW, Origin, parse_origin
from tests.strategies import ANY_JSON, NUMBERS, TEXTS, like

ORIGIN = {"connection": "c", "uri": "s3://b/a", "version": "v", "row": 0, "import": "t"}

metas = like(ls_pipeline=like(**ORIGIN))
results = like(
    id="r",
    type=st.sampled_from(["choices", "timelinelabels", "taxonomy", "relation", "paragraphlabels"]),
    from_name="c",
    to_name="t",
    item_index=NUMBERS,
    original_width=NUMBERS,
    score=TEXTS,
    labels=st.lists(TEXTS, max_size=2),
    value=like(
        x=NUMBERS,
        y=NUMBERS,
        width=NUMBERS,
        height=TEXTS,
        radiusX=NUMBERS,
        choices=st.lists(ANY_JSON, max_size=2),
        points=st.lists(st.lists(NUMBERS, max_size=3), max_size=2),
        ranges=st.lists(like(start=NUMBERS, end=NUMBERS), max_size=2),
        start=NUMBERS,
        end=NUMBERS,
    ),
)
times = st.sampled_from(
    ["2026-01-01T00:00:00.000000Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
annotations = like(
    id=st.integers(1, 3),
    result=st.lists(results, max_size=3),
    completed_by=like(id=NUMBERS),
    was_cancelled=False,
    lead_time=NUMBERS,
    created_at=times,
    updated_at=times,
)
listed_tasks = st.builds(
    lambda number, fields: {"updated_at": "2026-01-01T00:00:00.000000Z", **fields, "id": number},
    st.integers(1, 2**63 - 1),
    st.fixed_dictionaries(
        {},
        optional={
            "data": ANY_JSON,
            "meta": metas,
            "created_at": times | ANY_JSON,
            "annotations": st.lists(annotations, max_size=3) | ANY_JSON,
            "predictions": st.lists(like(id=1, result=st.lists(results)), max_size=2) | ANY_JSON,
        },
    ),
)


@given(metas)
def test_origin_of_any_meta_fits_every_database(meta):
    origin = parse_origin(meta)

    assert origin is None or (
        0 <= origin.row <= LAST_ROW
        and "\0" not in origin.version + origin.token + origin.connection
        and all(map(str.encode, (origin.uri, origin.version + "x")))
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"uri": 5},
        {"uri": "s3://b/\ud800"},
        {"uri": "s3://b/" + "x" * 10_000_000},
        {"version": 5},
        {"version": "\0"},
        {"row": -1},
        {"row": 2**31},
        {"row": 2**70},
        {"row": True},
        {"row": 1.0},
        {"import": ["t"]},
        {"connection": "\ud800"},
    ],
    ids=lambda odd: str(odd)[:20],
)
def test_meta_that_we_never_write_has_no_origin(odd):
    assert parse_origin({"ls_pipeline": ORIGIN}) == Origin("c", "s3://b/a", "v", 0, "t")
    assert parse_origin({"ls_pipeline": {**ORIGIN, **odd}}) is None


def test_key_may_hold_a_nul():
    assert parse_origin({"ls_pipeline": {**ORIGIN, "uri": "s3://b/\0"}}).uri == "s3://b/\0"


@given(st.lists(listed_tasks, max_size=2, unique_by=lambda task: task["id"]))
@settings(max_examples=60)
def test_any_task_fits_the_tables_and_loses_nothing(tasks):
    completions = [parse_completion(task) for task in tasks]
    rows = table_rows(completions, SplitRule())
    tables = {name: to_table(name, rows[name]) for name in TABLES}
    tally = tally_part(tables)
    restored = {
        row["task_id"]: build_document(
            row, [each for each in rows["annotations"] if each["task_id"] == row["task_id"]]
        )
        for row in rows["tasks"]
    }

    assert tally.tasks == len(tasks)
    assert all(map(write_parquet, tables.values()))
    for completion in completions:
        assert json.loads(json_document(completion))["id"] == completion.task_id
        document = {**completion.document}
        document.pop("updated_at")
        assert json.dumps(restored[completion.task_id], sort_keys=True) == json.dumps(
            document, sort_keys=True
        )


@given(listed_tasks)
def test_each_listed_annotation_is_in_the_document(task):
    document = parse_completion(task).document
    listed = task.get("annotations")
    listed = listed if isinstance(listed, list) else [] if listed is None else [listed]

    assert len(document["annotations"]) + len(document.get("unreadable_annotations", ())) == len(
        listed
    )


@given(
    st.binary()
    | like(ledger="l", generations=like(c=NUMBERS)).map(lambda v: json.dumps(v).encode())
)
def test_any_mark_of_a_target_is_ours_or_of_nobody(body):
    mark = TargetMark.parse(body)

    assert isinstance(mark.ledger, str)
    assert all(type(n) is int and 0 <= n < 2**63 for n in mark.generations.values())
    assert TargetMark.parse(mark.as_bytes()) == mark


records = like(
    eventName="ObjectCreated:Put",
    s3=like(bucket=like(name="b"), object=like(key="%ff%zz", eTag="v")),
)
events = like(
    Records=st.lists(records, max_size=2),
    source="aws.s3",
    detail=like(bucket=like(name="b"), object=like(key="k")),
    Type="Notification",
    Message=TEXTS,
)


@given(
    events.map(json.dumps) | TEXTS,
    st.dictionaries(st.sampled_from(["bucketId", "objectId"]), TEXTS),
)
def test_any_message_has_legal_events_or_none(body, attributes):
    parsed = parse_message(Message(body, attributes, "r"))

    assert all(isinstance(event, BucketEvent) and event.key.encode() for event in parsed.events)


def test_message_that_is_too_large_is_rejected():
    body = json.dumps({"Event": "s3:TestEvent", "more": "x" * LARGEST_BODY})

    assert "too large" in parse_message(Message(body, {}, "r")).rejection
