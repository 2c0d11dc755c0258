"""Changes in real buckets that other programs have missed: none is missed here."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.crash.scene import Scene
from tests.crash.test_faults import run_in_process, run_until_well

pytestmark = pytest.mark.server


@pytest.fixture(params=["s3", "gcs"])
def scene(live_environment, request):
    return Scene(run_in_process, request.param, on_delete="keep")


def loaded(scene):
    """Run the connection; return the text of each (key, row)."""
    assert scene.run() == ""
    return scene.outcome()[0]


def test_two_versions_within_one_second_differ(scene):
    while time.time() % 1 > 0.2:
        time.sleep(0.01)
    second = int(time.time())
    scene.put("a.json", "one")
    pages = list(scene.bucket.pages())
    scene.put("a.json", "two")

    assert int(time.time()) == second
    after = next(scene.bucket.pages())
    assert [stored.version for stored in pages[0]] != [stored.version for stored in after]


def test_overwriting_within_the_second_of_a_run_is_seen(scene):
    scene.put("a.json", "one")
    before = loaded(scene)
    scene.put("a.json", "two")

    assert (before, loaded(scene)) == ({("a.json", 0): "one"}, {("a.json", 0): "two"})


def test_object_deleted_and_put_back_with_the_same_content_is_one_task(scene):
    scene.put("a.json", "a")
    scene.put("b.json", "b")
    loaded(scene)
    tasks = scene.app.highest_task_id(scene.connection_ledger.projects.ids()[1])
    for key in ("a.json", "b.json"):  # between two runs, then with a run in between
        scene.bucket.delete(key)
        if key == "b.json":
            loaded(scene)
        scene.put(key, key[0])

    assert loaded(scene) == {("a.json", 0): "a", ("b.json", 0): "b"}
    assert scene.app.highest_task_id(scene.connection_ledger.projects.ids()[1]) == tasks


def test_smaller_key_that_comes_later_is_seen(scene):
    scene.put("b.json", "b")
    loaded(scene)
    scene.put("a.json", "a")

    assert loaded(scene) == {("a.json", 0): "a", ("b.json", 0): "b"}


def test_multipart_upload_that_ends_late_is_seen(live_environment):
    import boto3

    scene, client = Scene(run_in_process, "s3"), boto3.client("s3")
    place = {"Bucket": scene.source, "Key": "a.json"}
    upload = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=b'{"text": "late"}')
    scene.put("b.json", "b")
    before = loaded(scene)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    client.complete_multipart_upload(**upload, MultipartUpload=parts)

    assert (before, loaded(scene)) == (
        {("b.json", 0): "b"},
        {("a.json", 0): "late", ("b.json", 0): "b"},
    )


def old(handler, forward):
    status, headers, body = forward()
    date = rb"<LastModified>1970-01-01T00:00:00.000Z</LastModified>"
    handler.answer(status, headers, re.sub(rb"<LastModified>[^<]*</LastModified>", date, body))


def test_object_with_a_date_of_long_ago_is_seen(live_environment, between):
    scene = Scene(run_in_process, "s3")
    scene.put("b.json", "b")
    loaded(scene)
    scene.put("a.json", "a")
    scene.put("b.json", "changed")
    server = between(os.environ["AWS_ENDPOINT_URL"])
    live_environment.setenv("AWS_ENDPOINT_URL", server.url)
    with server.spoiling([r"GET /[^/]*-in\?"], old, times=100):
        assert loaded(scene) == {("a.json", 0): "a", ("b.json", 0): "changed"}
        assert server.spoiled


class Listing:
    """Lists two keys a page, and lets ``spoil`` answer for one page."""

    def __init__(self, spoil, page):
        self.spoil, self.page, self.pages = spoil, page, []

    def __call__(self, handler, forward):
        handler.path = re.sub(r"&max-keys=\d+", "", handler.path) + "&max-keys=2"
        answer = forward()
        self.pages.append(answer)
        if len(self.pages) == self.page:
            self.spoil(handler, answer, self.pages)
        else:
            handler.answer(*answer)


def delivered_twice(handler, _answer, pages):
    handler.answer(*pages[-2])


def half(handler, answer, _pages):
    status, headers, body = answer
    handler.answer(status, headers, body[: len(body) // 2])


def forbidden(handler, _answer, _pages):
    body = b"<Error><Code>AccessDenied</Code><Message>Said so.</Message></Error>"
    handler.answer(403, [("Content-Type", "application/xml")], body)


@pytest.mark.parametrize("spoil", [delivered_twice, half, forbidden])
def test_listing_that_fails_halfway_changes_nothing(live_environment, between, spoil):
    scene = Scene(run_in_process, "s3")  # with on_delete: delete
    for key in "abcdefg":
        scene.put(f"{key}.json", key)
    everything = loaded(scene)
    scene.put("c.json", "changed")
    server = between(os.environ["AWS_ENDPOINT_URL"])
    with live_environment.context() as through:
        through.setenv("AWS_ENDPOINT_URL", server.url)
        # The first request of a run only asks whether it may list.
        listing = Listing(spoil, page=3)
        with server.spoiling([r"GET /[^/]*-in\?"], listing, times=100):
            scene.run()
            assert len(listing.pages) >= 3
    keys = set(scene.outcome()[0])
    run_until_well(scene)

    assert keys == set(everything)
    assert scene.outcome()[0] == everything | {("c.json", 0): "changed"}
