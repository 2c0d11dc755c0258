"""GCS's listings as JSON."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.gcs.fast_list import parse_listing

UPDATED = "2026-01-02T03:04:05.678Z"
KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


def item(key, generation="1", updated=UPDATED):
    return {"name": key, "generation": generation, "size": "7", "updated": updated}


def answer(*keys, token="", indent=2, **more):
    body = {"kind": "storage#objects", **({"nextPageToken": token} if token else {})}
    items = [key if isinstance(key, dict) else item(key) for key in keys]
    return json.dumps(
        {**body, **({"items": items} if items else {}), **more}, indent=indent
    ).encode()


def keys_in(body, after=""):
    return [stored.key for stored in parse_listing(body, after).read()]


def fingerprint(body, after=""):
    return parse_listing(body, after).fingerprint


def test_object_is_read_whole():
    when = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)

    assert parse_listing(answer("a"), "").read() == [StoredObject("a", "1", 7, when)]


def test_time_in_another_form_is_left_out():
    assert parse_listing(answer(item("a", updated="now")), "").read()[0].modified is None


@given(st.lists(KEYS, unique=True), st.sampled_from([None, 0, 2]), st.text())
@example(['"items": []', "]}", "a]", "}, {"], None, '"items": ["]')
def test_any_key_is_read_back(keys, indent, token):
    body = answer(*sorted(keys), indent=indent, token=token)

    assert keys_in(body) == sorted(keys)
    assert parse_listing(body, "").token == token


@given(st.lists(KEYS, unique=True, min_size=2), st.sampled_from([None, 0, 2]))
def test_fingerprint_leaves_out_the_key_that_the_listing_starts_after(keys, indent):
    first, *rest = sorted(keys)
    by_offset, by_token = answer(first, *rest, indent=indent), answer(*rest, indent=indent)

    assert keys_in(by_offset, after=first) == keys_in(by_token, after=first) == rest
    assert fingerprint(by_offset, first) == fingerprint(by_token, first) != ""


@given(st.lists(KEYS, unique=True, min_size=1), st.data())
def test_fingerprint_is_another_if_anything_is(keys, data):
    keys = sorted(keys)
    changed = data.draw(st.sampled_from(keys))
    other = [item(key, "2" if key == changed else "1") for key in keys]

    assert fingerprint(answer(*keys)) != fingerprint(answer(*other))
    assert fingerprint(answer(*keys)) != fingerprint(answer(*keys[1:]))


def test_listing_of_an_emulator_that_ignores_the_offset_is_cut():
    body = answer("a", "b", "c")

    assert (keys_in(body, after="b"), fingerprint(body, after="b")) == (["c"], "")


def test_empty_listing_has_neither_objects_nor_fingerprint():
    assert (keys_in(answer()), fingerprint(answer())) == ([], "")
    assert fingerprint(answer("a"), after="a") == ""


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": {}}', b"null"])
def test_other_document_is_not_a_listing(body):
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse_listing(body, "")


@pytest.mark.parametrize("more", [{}, {"token": "t]}"}])
def test_listing_that_is_cut_off_anywhere_is_not_a_listing(more):
    body = answer("a", "b]}", 'c"', **more)
    for end in range(len(body)):
        with pytest.raises(ValueError):  # noqa: PT011 - any
            parse_listing(body[:end], "").read()


def test_item_without_a_version_is_not_a_listing():
    with pytest.raises(ValueError, match="generation"):
        parse_listing(answer({"name": "a", "size": "7"}), "").read()
