"""Stores that do not answer."""

from __future__ import annotations

import threading

import pytest

from ls_pipeline.domain.errors import BucketUnavailableError
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.patience import SHORT_SECONDS, Patience
from ls_pipeline.resources.s3.bucket import S3Buckets
from tests.bench import FakeClock
from tests.contracts.conftest import Answer

VERSION = "900150983cd24fb0d6963f7d28e17f72"
STORED = Answer(b"abc", headers={"ETag": f'"{VERSION}"'})
EMPTY = Answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


@pytest.fixture
def hangs(fake_server):
    """Return a function for requests that hang; they are let go at the end of the test."""
    over = threading.Event()

    def hang(_request):
        over.wait(60)
        return STORED

    fake_server.answer = hang
    yield hang
    over.set()


def s3(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    return S3Buckets(endpoint_url=fake_server.url, answer_seconds=0.8).open("b")


def gcs(environment, fake_server):
    environment.setenv("STORAGE_EMULATOR_HOST", fake_server.url)
    return GCSBuckets(project="p", retry_seconds=0.2, answer_seconds=0.8).open("b")


@pytest.mark.parametrize("opened", [s3, gcs])
def test_store_that_hangs_is_given_up_and_then_asked_once_a_request(
    environment, fake_server, hangs, opened
):
    bucket = opened(environment, fake_server)
    uses = [
        lambda: list(bucket.pages()),
        lambda: list(bucket.pages()),
        lambda: bucket.get("k"),
        lambda: bucket.put("k", b"abc", "text/plain"),
    ]
    for use in uses:
        with pytest.raises(BucketUnavailableError, match="does not answer"):
            use()

    # A busy server counts a request when its sender has given up already: only the sum is sure.
    assert len(fake_server.requests) <= 4 + 3


def test_silent_store_that_answers_again_is_waited_for_again(environment, fake_server, hangs):
    bucket = s3(environment, fake_server)
    with pytest.raises(BucketUnavailableError):
        list(bucket.pages())
    before = bucket.transport.patience.is_silent
    fake_server.answer = EMPTY
    list(bucket.pages())

    assert (before, bucket.transport.patience.is_silent) == (True, False)


def test_object_that_hangs_is_given_up_in_one_time_for_both_clients(
    environment, fake_server, hangs
):
    bucket = s3(environment, fake_server)
    with pytest.raises(BucketUnavailableError, match=f"^s3://b/k: .*{fake_server.url}"):
        bucket.get("k", VERSION)

    assert len(fake_server.requests) <= 4


def test_object_that_hangs_does_not_hurry_others():
    clock = FakeClock()
    patience = Patience(120, clock)
    began = patience.now()
    clock.sleep(60)
    patience.answered()
    clock.sleep(60)
    patience.unanswered(began)

    assert (patience.is_silent, patience.attempt_seconds) == (False, 30)


def test_silent_store_is_not_asked_again_within_a_request():
    clock = FakeClock()
    patience = Patience(120, clock)
    patience.unanswered(patience.now())
    before = patience.has_time_since(patience.now())
    clock.sleep(SHORT_SECONDS)

    assert (before, patience.has_time_since(patience.now() - SHORT_SECONDS)) == (True, False)


def test_requests_end_within_their_time():
    clock = FakeClock()
    patience = Patience(120, clock)
    began = patience.now()
    while patience.has_time_since(began):
        clock.sleep(patience.attempt_seconds)

    assert clock.now - began == 120
