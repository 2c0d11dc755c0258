"""What a notification events at, and that nobody can make more of it."""

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.events import BucketEvent, Message, differs_at, needs_probe, parse_message
from ls_pipeline.domain.objects import Filter, StoredObject

KEYS = ["a.json", "a b+c.json", "100%.json", "naïve ☃ 😀.json", "a//../b?#&=.json", "\t\x01\x7f"]


def parse(body, **attributes):
    text = body if isinstance(body, str) else json.dumps(body)
    return parse_message(Message(text, attributes, "receipt"))


def record(key, event="ObjectCreated:Put", etag="e1"):
    told = {"key": quote_plus(key), "size": 3, "eTag": etag}
    return {"eventName": event, "s3": {"bucket": {"name": "bucket"}, "object": told}}


def from_s3(*records):
    return {"Records": list(records)}


def through_sns(body):
    return {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(body)}


def through_eventbridge(key, kind="Object Created"):
    told = {"bucket": {"name": "bucket"}, "object": {"key": key, "etag": "e1", "size": 3}}
    return {"source": "aws.s3", "detail-type": kind, "detail": told}


def from_gcs(key, event="OBJECT_FINALIZE"):
    return {
        "bucketId": "bucket",
        "objectId": key,
        "objectGeneration": "17",
        "eventType": event,
        "payloadFormat": "NONE",
    }


@pytest.mark.parametrize("key", KEYS)
def test_every_form_of_s3_names_the_key_as_it_is(key):
    straight = from_s3(record(key))
    forms = [
        straight,
        through_sns(straight),
        through_eventbridge(key),
        through_sns(through_eventbridge(key)),
    ]

    assert {parse(one) for one in forms} == {((BucketEvent("bucket", key, "e1"),), "")}


@pytest.mark.parametrize("key", KEYS)
def test_gcs_names_the_key_as_it_is(key):
    assert parse("", **from_gcs(key)).events == (BucketEvent("bucket", key, "17"),)


def test_removal_is_told_from_a_write():
    removed = [
        parse(from_s3(record("a", "ObjectRemoved:Delete"))),
        parse(from_s3(record("a", "ObjectRemoved:DeleteMarkerCreated"))),
        parse(from_s3(record("a", "LifecycleExpiration:Delete"))),
        parse(through_eventbridge("a", "Object Deleted")),
        parse("", **from_gcs("a", "OBJECT_DELETE")),
        parse("", **from_gcs("a", "OBJECT_ARCHIVE")),
    ]

    assert {one.events for one in removed} == {(BucketEvent("bucket", "a", "", removed=True),)}


def test_version_that_was_overwritten_on_gcs_is_no_removal():
    told = from_gcs("a", "OBJECT_ARCHIVE") | {"overwrittenByGeneration": "2"}

    assert parse("", **told) == ((), "")


def test_test_event_says_nothing():
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}

    assert [parse(test), parse(through_sns(test))] == [((), "")] * 2


def test_several_records_are_several_hints():
    told = parse(from_s3(record("a"), {"s3": None}, record("b")))

    assert [one.key for one in told.events] == ["a", "b"]
    assert "no key" in told.rejection


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("null", "not a notification"),
        ("[]", "not a notification"),
        ({"Records": {}}, "not a notification"),
        ({"Records": [None]}, "no key"),
        (from_s3(record("")), "no key"),
        (from_s3(record("k" * 1025)), "no key"),
        ({"Records": [{"s3": {"bucket": {"name": 1}, "object": {"key": "a"}}}]}, "no key"),
        ({"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]}, "no key"),
        (through_eventbridge("\ud800"), "no key"),
        (through_eventbridge(["a"]), "no key"),
        ({"Type": "SubscriptionConfirmation", "SubscribeURL": "http://x"}, "confirm"),
        (through_sns(through_sns(through_sns(from_s3(record("a"))))), "not a notification"),
    ],
)
def test_other_message_is_rejected_in_half_a_sentence(body, rejection):
    told = parse(body)

    assert (told.events, rejection in told.rejection) == ((), True)


def test_gcs_without_a_key_is_said():
    assert "no key" in parse("{}", bucketId="bucket").rejection


NAMES = [
    *("Records", "s3", "bucket", "object", "key", "name", "eTag", "eventName"),
    *("source", "detail", "detail-type", "etag", "Type", "Message", "Event"),
]
WORDS = ["aws.s3", "Notification", "s3:TestEvent", '{"Records": [1]}']
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES), inner | st.sampled_from(WORDS), max_size=5)
    ),
    max_leaves=20,
)


@given(json_values, st.dictionaries(st.sampled_from(["bucketId", "objectId"]), st.text()))
def test_whatever_a_message_holds_nothing_is_raised_and_hints_are_legal(value, attributes):
    told = parse_message(Message(json.dumps(value), attributes, ""))

    assert all(0 < len(one.key.encode()) <= 1024 for one in told.events)
    assert all(
        isinstance(one.version, str) and isinstance(one.removed, bool) for one in told.events
    )


@given(st.text() | st.binary().map(lambda body: body.decode("latin-1")))
def test_no_text_is_raised_at(body):
    assert isinstance(parse_message(Message(body, {}, "")).rejection, str)


LOADED = KnownObject("in/a", "v1", 3, State.LOADED)
REMOVED = LOADED._replace(state=State.REMOVED)


@pytest.mark.parametrize(
    ("event", "known", "worth"),
    [
        (BucketEvent("b", "in/a", "v1"), None, True),
        (BucketEvent("b", "in/a", "v1"), LOADED, False),
        (BucketEvent("b", "in/a", "v2"), LOADED, True),
        (BucketEvent("b", "in/a"), LOADED, True),
        (BucketEvent("b", "in/a", "v1"), REMOVED, True),
        (BucketEvent("b", "in/a", removed=True), LOADED, True),
        (BucketEvent("b", "in/a", removed=True), REMOVED, False),
        (BucketEvent("b", "in/a", removed=True), None, False),
        (BucketEvent("b", "out/a", "v1"), None, False),
        (BucketEvent("b", "in/x", "v1"), None, False),
        (BucketEvent("b", "in/x", removed=True), LOADED._replace(key="in/x"), True),
    ],
)
def test_hint_is_worth_a_look_where_the_ledger_is_not_as_it_says(event, known, worth):
    assert needs_probe(event, known, Filter("in", "in/a")) is worth


@pytest.mark.parametrize(
    ("known", "listed", "differs"),
    [
        (None, [StoredObject("in/a", "v1", 3)], True),
        (None, [StoredObject("in/ab", "v1", 3)], False),
        (None, [], False),
        (LOADED, [StoredObject("in/a", "v1", 3), StoredObject("in/ab", "v1", 3)], False),
        (LOADED, [StoredObject("in/a", "v2", 3)], True),
        (LOADED, [StoredObject("in/ab", "v1", 3)], True),
        (LOADED, [], True),
        (REMOVED, [], False),
    ],
)
def test_only_the_listing_decides_whether_a_key_differs(known, listed, differs):
    assert differs_at("in/a", known, listed, Filter("in")) is differs


@given(st.text(min_size=1), st.text())
def test_forged_hint_never_differs_where_nothing_is(key, version):
    assert not differs_at(key, None, [], Filter())
