"""S3's listings as XML."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.s3.fast_list import parse_listing

AMAZON = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
END = "<IsTruncated>false</IsTruncated>"
OWNER = "<Owner><ID>me</ID></Owner>"
STORAGE = "<StorageClass>STANDARD</StorageClass>"
URL = "<EncodingType>url</EncodingType>"


def answer(*keys, frame=END, space=AMAZON, modified="2026-01-02T03:04:05.678Z", more=OWNER):
    rows = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>7</Size>{more}</Contents>"
        for key in keys
    )
    return f"<ListBucketResult{space}>{frame}{rows}</ListBucketResult>".encode()


def objects_in(body):
    return parse_listing(body).read()


def test_object_is_read_whole():
    when = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)

    assert objects_in(answer("a")) == [StoredObject("a", "e", 7, when)]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1)))
def test_any_quoted_key_is_read_back(keys):
    objects = objects_in(answer(*map(quote_plus, keys), frame=END + URL))

    assert [stored.key for stored in objects] == keys


def test_unquoted_key_is_read_unchanged():
    assert objects_in(answer("a+b%20c"))[0].key == "a+b%20c"


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1)))
@example(["a<b"])
@example(["a&b"])
def test_usual_page_is_read_the_same_as_any_document(keys):
    usual = {"frame": f"{END}<KeyCount>{len(keys)}</KeyCount>", "more": STORAGE}

    assert objects_in(answer(*keys, **usual)) == objects_in(answer(*keys))


def test_page_with_a_wrong_count_is_refused():
    counted = f"{END}<KeyCount>2</KeyCount>"
    odd = answer("a", "b", frame=counted, more=STORAGE).replace(b"<Key>a</Key>", b"", 1)

    with pytest.raises(ValueError, match="an object has no Key"):
        objects_in(odd)


@pytest.mark.parametrize("echo", ["StartAfter", "Prefix"])
@pytest.mark.parametrize("more", [OWNER, STORAGE])
def test_request_that_is_repeated_in_the_answer_may_be_no_xml(echo, more):
    repeated = f"<{echo}>\x01&#x1;\uffff</{echo}>{END}"

    assert [stored.key for stored in objects_in(answer("a", frame=repeated, more=more))] == ["a"]


def test_store_without_a_namespace_is_read():
    assert len(objects_in(answer("a", space=""))) == 1


def test_time_in_another_format_hides_no_object():
    (stored,) = objects_in(answer("a", modified="Fri, 02 Jan 2026 03:04:05 GMT"))

    assert (stored.key, stored.modified) == ("a", None)


def test_token_asks_for_the_next_page():
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"

    assert parse_listing(answer("a", frame=more)).token == "t"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html/>",
        answer("a")[:-30],
        answer("a", frame=""),
        answer("a", frame="<IsTruncated>true</IsTruncated>"),
        answer("a").replace(b"<Size>7</Size>", b""),
        answer("a").replace(b"<Size>7", b"<Size>seven"),
        b'<!DOCTYPE l [<!ENTITY k "x">]>' + answer("a").replace(b">7<", b">&k;<"),
    ],
    ids=["nothing", "web page", "cut", "no end", "no token", "no size", "odd size", "entity"],
)
def test_incomplete_listing_is_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        objects_in(body)


def test_fingerprint_depends_only_on_the_objects():
    counted = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    first, last = parse_listing(answer("a", frame=counted)), parse_listing(answer("a"))

    assert first.fingerprint == last.fingerprint != ""


@pytest.mark.parametrize(
    "other",
    [answer("b"), answer("a", "b"), answer("a", modified="2027-01-02T03:04:05.678Z")],
    ids=["key", "one more", "time"],
)
def test_fingerprint_changes_with_the_objects(other):
    assert parse_listing(other).fingerprint != parse_listing(answer("a")).fingerprint


def test_empty_page_has_no_fingerprint():
    assert parse_listing(answer()).fingerprint == ""
