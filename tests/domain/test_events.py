"""What a message of a bucket means, and that a forged message means no more."""

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
    item = {"key": quote_plus(key), "size": 3, "eTag": etag}
    return {"eventName": event, "s3": {"bucket": {"name": "bucket"}, "object": item}}


def from_s3(*records):
    return {"Records": list(records)}


def through_sns(body):
    return {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(body)}


def through_eventbridge(key, kind="Object Created"):
    detail = {"bucket": {"name": "bucket"}, "object": {"key": key, "etag": "e1", "size": 3}}
    return {"source": "aws.s3", "detail-type": kind, "detail": detail}


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

    assert {parse(form) for form in forms} == {((BucketEvent("bucket", key, "e1"),), "")}


@pytest.mark.parametrize("key", KEYS)
def test_gcs_names_the_key_as_it_is(key):
    assert parse("", **from_gcs(key)).events == (BucketEvent("bucket", key, "17"),)


def test_removal_is_distinguished_from_a_write():
    removed = [
        parse(from_s3(record("a", "ObjectRemoved:Delete"))),
        parse(from_s3(record("a", "ObjectRemoved:DeleteMarkerCreated"))),
        parse(from_s3(record("a", "LifecycleExpiration:Delete"))),
        parse(through_eventbridge("a", "Object Deleted")),
        parse("", **from_gcs("a", "OBJECT_DELETE")),
        parse("", **from_gcs("a", "OBJECT_ARCHIVE")),
    ]

    assert {parsed.events for parsed in removed} == {
        (BucketEvent("bucket", "a", "", removed=True),)
    }


def test_overwritten_version_on_gcs_is_not_a_removal():
    attributes = from_gcs("a", "OBJECT_ARCHIVE") | {"overwrittenByGeneration": "2"}

    assert parse("", **attributes) == ((), "")


def test_test_event_has_no_events():
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}

    assert [parse(test), parse(through_sns(test))] == [((), "")] * 2


def test_several_records_are_several_events():
    parsed = parse(from_s3(record("a"), {"s3": None}, record("b")))

    assert [event.key for event in parsed.events] == ["a", "b"]
    assert "no key" in parsed.rejection


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        ("", "not JSON"),
        ("[" * 60_000, "not JSON"),
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
    parsed = parse(body)

    assert (parsed.events, rejection in parsed.rejection) == ((), True)


def test_gcs_without_a_key_is_rejected():
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
def test_any_message_raises_nothing_and_its_events_are_legal(value, attributes):
    parsed = parse_message(Message(json.dumps(value), attributes, ""))

    assert all(0 < len(event.key.encode()) <= 1024 for event in parsed.events)
    assert all(
        isinstance(event.version, str) and isinstance(event.removed, bool)
        for event in parsed.events
    )


@given(st.text() | st.binary().map(lambda body: body.decode("latin-1")))
def test_no_text_raises(body):
    assert isinstance(parse_message(Message(body, {}, "")).rejection, str)


LOADED = KnownObject("in/a", "v1", 3, State.LOADED)
REMOVED = LOADED._replace(state=State.REMOVED)


@pytest.mark.parametrize(
    ("event", "known", "needed"),
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
def test_probe_is_needed_if_the_ledger_disagrees(event, known, needed):
    assert needs_probe(event, known, Filter("in", "in/a")) is needed


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
def test_forged_event_never_differs_at_an_absent_key(key, version):
    assert not differs_at(key, None, [], Filter())
