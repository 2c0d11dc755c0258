"""Stores, and services of credentials, that do not answer, or byte by byte."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from ls_pipeline.domain.errors import (
    BucketError,
    BucketUnavailableError,
    LabelStudioUnavailableError,
    QueueUnavailableError,
)
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio import session
from ls_pipeline.resources.label_studio.http import LabelStudioAPI
from ls_pipeline.resources.pace import LEAST_RATE, Pace
from ls_pipeline.resources.patience import SHORT_SECONDS, Patience
from ls_pipeline.resources.s3 import credentials, sqs
from ls_pipeline.resources.s3.bucket import S3Buckets, S3Options
from ls_pipeline.resources.s3.sqs import SQSQueue
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


# -- answers byte by byte -----------------------------------------------------------------

SLOW = 0.05
"""Seconds before each byte; a client would wait longer for it."""


@pytest.mark.parametrize("opened", [s3, gcs])
def test_answer_of_a_store_that_comes_byte_by_byte_is_given_up(environment, fake_server, opened):
    bucket = opened(environment, fake_server)
    fake_server.answer = replace(STORED, pause=SLOW)
    for use in (
        lambda: list(bucket.pages()),
        lambda: bucket.get("k", VERSION if bucket.scheme == "s3" else "1"),
        lambda: bucket.put("k k", b"abc", "text/plain"),
    ):
        with pytest.raises(BucketUnavailableError):
            use()


def test_body_that_comes_byte_by_byte_is_given_up(environment, fake_server):
    bucket = s3(environment, fake_server)
    fake_server.answer = lambda _: replace(STORED, body=b"x" * 1000, pause=0.004)

    with pytest.raises(BucketUnavailableError):
        bucket.get("k")


def test_queue_that_answers_byte_by_byte_is_given_up(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    environment.setattr(sqs, "ANSWER_SECONDS", 0.2)
    fake_server.answer = Answer(pause=SLOW)

    with pytest.raises(QueueUnavailableError):
        SQSQueue(f"{fake_server.url}/1/labels", "eu-west-3").receive(1, 1.0)


def test_label_studio_that_answers_byte_by_byte_is_given_up(environment, fake_server):
    environment.setattr(session, "TIMEOUT_SECONDS", 0.2)
    fake_server.answer = Answer(b"{}", pause=SLOW)

    with pytest.raises(LabelStudioUnavailableError, match="does not answer"):
        LabelStudioAPI(fake_server.url, "key").json("GET", "api/version")


def test_label_studio_that_hangs_is_waited_for_once(environment, fake_server, hangs):
    environment.setattr(session, "TIMEOUT_SECONDS", 0.4)
    environment.setattr(session, "SILENT_SECONDS", 0.1)
    api = LabelStudioAPI(fake_server.url, "key")
    waited = []
    for _ in range(3):
        with pytest.raises(LabelStudioUnavailableError, match="does not answer"):
            api.json("GET", "api/version")
        waited.append(api.http._patience.is_silent)
    fake_server.answer = Answer(b"{}")
    api.json("GET", "api/version")

    assert waited == [True, True, True]
    assert not api.http._patience.is_silent


def test_slow_answer_that_keeps_coming_is_read():
    clock = FakeClock()
    pace = Pace(30, clock)

    def read(seconds):
        clock.sleep(min(seconds, 20))
        return 20 * LEAST_RATE

    assert [pace.read(30, read) for _ in range(100)] == [20 * LEAST_RATE] * 100


def test_time_between_reads_is_not_that_of_the_answer():
    clock = FakeClock()
    pace = Pace(30, clock)
    pace.read(30, lambda _: 1)
    clock.sleep(1000)

    assert pace.read(30, lambda _: 1) == 1


# -- credentials --------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/labels"


@pytest.fixture
def aws(environment, fake_server):
    """Return the environment of a machine whose services of credentials are the fake server."""
    environment.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    environment.setenv("AWS_ENDPOINT_URL_STS", fake_server.url)
    return environment


def assumes_role(environment, fake_server, tmp_path):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    return S3Options(endpoint_url="http://127.0.0.1:9", role_arn=ROLE)


def has_web_identity(environment, fake_server, tmp_path):
    (tmp_path / "token").write_text("token")
    environment.setenv("AWS_ROLE_ARN", ROLE)
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    return S3Options(endpoint_url="http://127.0.0.1:9")


def is_container(environment, fake_server, tmp_path):
    environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", fake_server.url)
    return S3Options(endpoint_url="http://127.0.0.1:9")


def is_machine(environment, fake_server, tmp_path):
    environment.setenv("AWS_EC2_METADATA_DISABLED", "false")
    environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake_server.url)
    return S3Options(endpoint_url="http://127.0.0.1:9")


def has_process(environment, fake_server, tmp_path):
    (tmp_path / "config").write_text("[default]\ncredential_process = sleep 61\n")
    environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return S3Options(endpoint_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "options", [assumes_role, has_web_identity, is_container, is_machine, has_process]
)
def test_aws_credentials_that_do_not_come_are_given_up(aws, fake_server, tmp_path, options):
    fake_server.answer = Answer(b"x" * 1000, pause=SLOW)
    buckets, given = S3Buckets(answer_seconds=0.4), options(aws, fake_server, tmp_path)
    for _ in range(2):
        with pytest.raises(BucketUnavailableError, match=r"does not answer .*AWS_ENDPOINT_URL_STS"):
            list(buckets.open("b", given).pages())

    assert buckets._patience_with("credentials").is_silent


def test_role_is_named_if_sts_does_not_answer(aws, fake_server, hangs, tmp_path):
    buckets = S3Buckets(answer_seconds=0.4)

    with pytest.raises(BucketUnavailableError, match=f"role {ROLE} can't be assumed: the source"):
        list(buckets.open("b", assumes_role(aws, fake_server, tmp_path)).pages())


def test_queue_in_a_role_is_given_up_if_sts_does_not_answer(aws, fake_server, hangs, tmp_path):
    assumes_role(aws, fake_server, tmp_path)
    queue = SQSQueue("http://127.0.0.1:9/1/labels", "eu-west-3", ROLE)
    queue.patience = Patience(0.4)

    with pytest.raises(QueueUnavailableError, match=f"role {ROLE} can't be assumed: the source"):
        queue.receive(1, 1.0)


def test_google_credentials_that_do_not_come_are_given_up(environment, fake_server):
    from google.cloud.storage import Client
    from google.oauth2.credentials import Credentials

    fake_server.answer = Answer(b"x" * 1000, pause=SLOW)

    def new():
        uri = f"{fake_server.url}/token"
        keys = {"refresh_token": "r", "client_id": "c", "client_secret": "s", "token_uri": uri}
        return Client("p", credentials=Credentials(None, **keys))

    bucket = GCSBuckets(new_client=new, retry_seconds=0.2, answer_seconds=0.4).open("b")
    for _ in range(2):
        with pytest.raises(BucketUnavailableError, match="does not answer"):
            list(bucket.pages())

    assert bucket.patience.is_silent


def test_process_that_does_not_end_is_killed(aws, fake_server, tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "MORE_SECONDS", 0.0)
    killed = threading.Event()

    class Process(credentials._Process):
        def kill(self):
            super().kill()
            killed.set()

    monkeypatch.setattr(credentials, "_Process", Process)
    given = has_process(aws, fake_server, tmp_path)
    with pytest.raises(BucketError):
        S3Buckets(answer_seconds=0.2).open("b", given)

    assert killed.wait(60)


def test_call_that_ends_late_counts_as_an_answer_and_until_then_no_other_begins():
    patience, ends, begun = Patience(0.1), threading.Event(), []

    def call():
        begun.append(1)
        return ends.wait(60)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            patience.wait_for(call)
    before = patience.is_silent, len(begun)
    ends.set()

    assert before == (True, 1)
    assert patience.wait_for(call)
    assert not patience.is_silent
