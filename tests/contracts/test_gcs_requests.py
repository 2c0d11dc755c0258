"""Requests for listings of GCS: what is sent, and who repeats it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from google.auth.credentials import CredentialsWithQuotaProject
from google.auth.exceptions import RefreshError
from google.cloud.storage import Client

from ls_pipeline.domain.errors import BucketAccessError, BucketUnavailableError
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from tests.contracts.conftest import Answer, gcs_refusal

ITEM = {"name": "a", "generation": "1", "size": "7", "updated": "2026-01-02T03:04:05Z"}
BODY = json.dumps({"kind": "storage#objects", "items": [ITEM]}).encode()
LISTING = Answer(BODY, headers={"content-type": "application/json"})


class Credentials(CredentialsWithQuotaProject):
    """Credentials whose tokens are t1, t2 and so on; after ``most`` of them, refused."""

    def __init__(self, most=9):
        super().__init__()
        self._quota_project_id, self.tokens, self.most = "payer", 0, most

    def refresh(self, _request):
        if self.tokens == self.most:
            raise RefreshError("invalid_grant: hunter2")
        self.tokens += 1
        self.token = f"t{self.tokens}"


@pytest.fixture
def opened(environment, fake_server):
    """Return a function that opens a bucket of the fake server with credentials."""
    environment.setenv("STORAGE_EMULATOR_HOST", fake_server.url)
    fake_server.answer = LISTING

    def open_bucket(credentials=None):
        used = credentials or Credentials()
        buckets = GCSBuckets(retry_seconds=20, new_client=lambda: Client("p", credentials=used))
        return buckets.open("b ü", requester_pays=True)

    return open_bucket


def listed(bucket):
    return [stored.key for page in bucket.pages("a", "A") for stored in page]


def sent(fake_server):
    """Return what the requests said, without their ids."""
    ids = {"x-goog-api-client", "x-goog-gcs-idempotency-token"}
    return [
        (
            request.path,
            {name: value for name, value in request.headers.items() if name not in ids},
            request.headers["x-goog-api-client"].partition(" gccl-invocation-id")[0].strip(),
        )
        for request in fake_server.requests
    ]


def tokens(fake_server):
    return [request.headers["authorization"] for request in fake_server.requests]


def test_listing_is_requested_as_googles_client_does(opened, fake_server):
    bucket = opened()
    keys = [listed(bucket), listed(bucket), listed(replace(bucket, transport=None))]
    first, fast, google = sent(fake_server)

    assert keys == [["a"]] * 3
    assert first == fast == google
    assert first[1]["x-goog-user-project"] == "payer"


@pytest.mark.parametrize(
    "first",
    [
        gcs_refusal(503, "Busy."),
        gcs_refusal(429, "Slower."),
        Answer(BODY, announced=len(BODY) + 1),
        Answer(status=307, headers={"location": "/other"}),
        Answer(b"no gzip", headers={"content-encoding": "gzip"}),
    ],
    ids=["busy", "too many requests", "cut off", "redirect", "damaged"],
)
def test_listing_that_fails_is_repeated(opened, fake_server, first):
    bucket = opened()
    listed(bucket)
    answers = iter([first, LISTING])
    fake_server.answer = lambda _request: next(answers)

    assert listed(bucket) == ["a"]


def test_redirect_is_followed(opened, fake_server):
    fake_server.answer = lambda request: (
        LISTING if request.path == "/other" else Answer(status=307, headers={"location": "/other"})
    )

    assert [listed(bucket := opened()), listed(bucket)] == [["a"], ["a"]]


def test_token_that_is_refused_is_renewed_once(opened, fake_server):
    bucket = opened()
    listed(bucket)
    fake_server.answer = lambda request: (
        gcs_refusal(401, "Expired.") if request.headers["authorization"] == "Bearer t1" else LISTING
    )
    keys = [listed(bucket), listed(bucket)]

    assert keys == [["a"]] * 2
    assert tokens(fake_server) == ["Bearer t1"] * 3 + ["Bearer t2"] * 2


def test_credentials_that_can_not_be_renewed_are_named(opened, fake_server):
    bucket = opened(Credentials(most=1))
    listed(bucket)
    fake_server.answer = gcs_refusal(401, "Expired.")

    with pytest.raises(BucketAccessError, match=r"Google credentials are usable .*invalid_grant"):
        listed(bucket)


@pytest.mark.parametrize("kind", [TypeError, KeyError, AttributeError])
def test_page_in_place_of_a_token_is_named(opened, kind):
    class Page(Credentials):
        def refresh(self, _request):
            raise kind("hunter2")

    with pytest.raises(BucketUnavailableError, match="Google credentials sent no token") as caught:
        listed(opened(Page()))

    assert "hunter2" not in str(caught.value)


def test_clock_that_is_wrong_is_named(opened):
    class Late(Credentials):
        def refresh(self, _request):
            raise RefreshError(
                "invalid_grant: Invalid JWT: Token must be in a reasonable timeframe."
            )

    with pytest.raises(BucketAccessError, match="Set this machine's clock"):
        listed(opened(Late()))


def test_long_page_is_not_repeated(opened):
    class Page(Credentials):
        def refresh(self, _request):
            raise RefreshError("<html>" * 10_000)

    with pytest.raises(BucketAccessError) as caught:
        listed(opened(Page()))

    assert len(str(caught.value)) < 1000


def test_answer_that_is_no_listing_is_not_asked_for_again(opened, fake_server):
    bucket = opened()
    listed(bucket)
    fake_server.answer = Answer(b"<html><body>Log in</body></html>")
    with pytest.raises(BucketUnavailableError, match="not a complete listing"):
        listed(bucket)

    assert len(fake_server.requests) == 2


def test_listing_goes_through_the_proxy(environment, opened, fake_server):
    environment.setenv("HTTP_PROXY", fake_server.url.replace("//", "//me:pass@"))
    environment.setenv("STORAGE_EMULATOR_HOST", "http://storage.example")
    environment.delenv("NO_PROXY", raising=False)
    bucket = opened()
    keys = [listed(bucket), listed(bucket)]
    first, fast = sent(fake_server)

    assert keys == [["a"]] * 2
    assert first == fast
    assert first[0].startswith("http://storage.example/storage/v1/b/")
    assert first[1]["proxy-authorization"].startswith("Basic ")
