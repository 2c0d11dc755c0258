"""Objects that are read and written without botocore, and with it if necessary."""

from __future__ import annotations

import base64
import hashlib

import pytest

from ls_pipeline.domain.errors import (
    BucketAccessError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.s3.fast_list import FastListTransport
from ls_pipeline.resources.s3.fast_objects import MAX_MISSES
from tests.contracts.conftest import Answer, s3_refusal

BODY = b'{"text": "The kettle sings."}'
VERSION = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@pytest.fixture
def bucket(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "me")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_SESSION_TOKEN", "for a while")
    environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    return S3Buckets(endpoint_url=fake_server.url, max_attempts=1).open("shelf")


def stored(body, version=VERSION):
    return Answer(body, headers={"ETag": f'"{version}"'})


def is_botocore(request):
    return "Boto" in request.headers["user-agent"]


def test_listed_version_is_requested_without_botocore(bucket, fake_server):
    fake_server.answer = stored(BODY)

    assert bucket.get("a/b c.json", VERSION) == BODY
    [request] = fake_server.requests
    assert not is_botocore(request)
    assert request.path == "/shelf/a/b%20c.json"
    assert request.headers["if-match"] == f'"{VERSION}"'
    assert "Credential=me/" in request.headers["authorization"]
    assert "/eu-west-1/s3/" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == "for a while"


def test_address_of_another_variable_is_ignored(bucket, fake_server, environment):
    environment.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    fake_server.answer = stored(BODY)

    assert bucket.get("a", VERSION) == BODY
    assert not any(map(is_botocore, fake_server.requests))


def test_bytes_unlike_the_version_are_read_by_botocore(bucket, fake_server):
    fake_server.answer = lambda request: stored(BODY if is_botocore(request) else BODY[:-1])

    assert bucket.get("a", VERSION) == BODY


def test_unverifiable_version_is_read_by_botocore(bucket, fake_server):
    fake_server.answer = stored(BODY, "an object in parts-2")

    assert bucket.get("a", "an object in parts-2") == BODY
    assert is_botocore(fake_server.requests[-1])


def test_bucket_of_unverifiable_versions_is_left_to_botocore(bucket, fake_server):
    fake_server.answer = stored(BODY, "encrypted")
    for _ in range(MAX_MISSES):
        bucket.get("a", "encrypted")
    fake_server.requests.clear()

    bucket.get("a", "encrypted")

    assert list(map(is_botocore, fake_server.requests)) == [True]


def test_missing_objects_do_not_end_fast_reads(bucket, fake_server):
    fake_server.answer = lambda request: (
        stored(BODY) if request.path.endswith("here") else s3_refusal("NoSuchKey", 404)
    )
    for _ in range(2 * MAX_MISSES):
        bucket.get("here", VERSION)
        with pytest.raises(ObjectNotFoundError):
            bucket.get("gone", VERSION)

    fake_server.requests.clear()
    bucket.get("here", VERSION)

    assert not any(map(is_botocore, fake_server.requests))


def test_encrypting_store_is_left_to_botocore_after_one_object(bucket, fake_server):
    headers = {"ETag": '"of-the-cipher"', "x-amz-server-side-encryption": "aws:kms"}
    sent = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    fake_server.answer = Answer(headers={**headers, "x-amz-checksum-sha256": sent})
    for number in range(5):
        bucket.put(f"{number}", BODY, "application/json")

    assert list(map(is_botocore, fake_server.requests)) == [False, *[True] * 5]


def test_multipart_upload_is_fetched_once(bucket, fake_server):
    version = f"{VERSION}-2"
    fake_server.answer = stored(BODY, version)

    assert bucket.get("a", version) == BODY
    assert len(fake_server.requests) == 1


@pytest.mark.parametrize("exists", [True, False])
def test_missing_object_differs_from_a_forbidden_object(bucket, fake_server, exists):
    listed = listing(contents(VERSION, 1) * exists)
    fake_server.answer = lambda request: (
        listed if "list-type" in request.path else s3_refusal("AccessDenied", 403)
    )

    with pytest.raises(BucketAccessError if exists else ObjectNotFoundError):
        bucket.get("a", VERSION)


def test_archived_object_is_refused(bucket, fake_server):
    fake_server.answer = s3_refusal("InvalidObjectState", 403)

    with pytest.raises(ObjectRefusedError, match="the object is archived"):
        bucket.get("a", VERSION)


def test_refusal_keeps_botocores_words(bucket, fake_server):
    fake_server.answer = s3_refusal("AccessDenied", 403)

    with pytest.raises(BucketAccessError, match="AccessDenied"):
        bucket.get("a", VERSION)


def test_folder_of_certificates_is_left_to_botocore(environment, fake_server, tmp_path):
    environment.setenv("AWS_ACCESS_KEY_ID", "me")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_CA_BUNDLE", str(tmp_path))
    fake_server.answer = stored(BODY)
    bucket = S3Buckets(endpoint_url=fake_server.url).open("shelf")

    assert bucket.get("a", VERSION) == BODY
    assert all(map(is_botocore, fake_server.requests))


def test_object_is_written_once_and_confirmed(bucket, fake_server):
    fake_server.answer = stored(b"")

    assert bucket.put("labels/1.json", BODY, "application/json").version == VERSION
    [request] = fake_server.requests
    assert (request.method, request.path) == ("PUT", "/shelf/labels/1.json")
    assert request.body == BODY
    assert request.headers["content-type"] == "application/json"
    sha256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert request.headers["x-amz-checksum-sha256"] == sha256
    assert not is_botocore(request)


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "a/../b", "./a", "a b", "é", "a%2Fb", ".."])
def test_ambiguous_key_is_written_by_botocore(bucket, fake_server, key):
    fake_server.answer = stored(b"")

    bucket.put(key, BODY, "application/json")

    assert all(map(is_botocore, fake_server.requests))


def test_write_that_is_not_confirmed_is_repeated_by_botocore(bucket, fake_server):
    fake_server.answer = lambda request: stored(
        b"", VERSION if is_botocore(request) else "encrypted"
    )

    assert bucket.put("a", BODY, "application/json").version == VERSION
    assert is_botocore(fake_server.requests[-1])


# -- conditional writes -------------------------------------------------------------------


class Shelf:
    """A store of one object. Of its first writes it loses the answers, as a proxy may."""

    def __init__(self, losses=0, etag=VERSION, headers=None):
        self.losses, self.version, self.body = losses, "", b""
        self.etag, self.headers = etag, headers or {}

    def __call__(self, request):
        if "list-type" in request.path:
            return listing(contents(self.version, len(self.body)) * bool(self.version))
        if request.method == "GET":
            return stored(self.body, self.version)
        expected = request.headers.get("if-match", "").strip('"')
        if expected != self.version:
            return s3_refusal("PreconditionFailed", 412)
        self.version, self.body = self.etag, request.body
        if self.losses:
            self.losses -= 1
            return s3_refusal("InternalError", 500)
        return Answer(headers={"ETag": f'"{self.version}"', **self.headers})


def contents(version, size):
    properties = f"<LastModified/><ETag>{version}</ETag><Size>{size}</Size>"
    return f"<Contents><Key>a</Key>{properties}</Contents>"


def listing(contents=""):
    return Answer(
        f"<ListBucketResult>{contents}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
    )


@pytest.fixture
def of_botocore(environment):
    environment.setattr(FastListTransport, "objects", lambda *_: None)


def write(bucket, if_version="", body=BODY):
    return bucket.put("a", body, "application/json", if_version=if_version)


@pytest.mark.parametrize(
    ("version", "condition"),
    [("", ("if-none-match", "*")), ("several parts-2", ("if-match", "several parts-2"))],
)
def test_conditional_write_needs_no_botocore(bucket, fake_server, environment, version, condition):
    environment.setenv("AWS_CONDITIONAL_PUT", "disabled")
    fake_server.answer = stored(b"")

    assert write(bucket, version).version == VERSION
    [request] = fake_server.requests
    assert not is_botocore(request)
    assert condition in request.headers.items()


@pytest.mark.parametrize("version", ["", "old"])
@pytest.mark.parametrize("is_fast", [True, False])
def test_conditional_write_whose_answer_is_lost_counts(
    bucket, fake_server, request, version, is_fast
):
    if not is_fast:
        request.getfixturevalue("of_botocore")
        bucket = S3Buckets(endpoint_url=fake_server.url, max_attempts=2).open("shelf")
    fake_server.answer = shelf = Shelf(losses=1)
    shelf.version = version

    assert write(bucket, version).version == VERSION
    assert any(map(is_botocore, fake_server.requests))


@pytest.mark.parametrize("other", [b"{}", BODY[::-1]], ids=["another size", "the same size"])
def test_conditional_write_over_another_body_is_refused(bucket, fake_server, other):
    fake_server.answer = shelf = Shelf()
    shelf.version, shelf.body = "other", other

    with pytest.raises(ObjectChangedError):
        write(bucket)


@pytest.mark.parametrize("version", ["", "old"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("PreconditionFailed", 412),
        ("NoSuchKey", 404),
        ("ConditionalRequestConflict", 409),
    ],
)
def test_refused_condition_says_changed(bucket, fake_server, version, code, status):
    fake_server.answer = lambda request: (
        listing() if "list-type" in request.path else s3_refusal(code, status)
    )

    with pytest.raises(ObjectChangedError):
        write(bucket, version)


def test_refused_conditions_do_not_end_fast_writes(bucket, fake_server):
    fake_server.answer = Shelf()
    for _ in range(2 * MAX_MISSES):
        with pytest.raises(ObjectChangedError):
            write(bucket, "other")
    fake_server.requests.clear()
    write(bucket)

    assert list(map(is_botocore, fake_server.requests)) == [False]


def test_store_without_conditions_is_asked_for_them_once(bucket, fake_server):
    fake_server.answer = lambda request: (
        s3_refusal("NotImplemented", 501) if "if-none-match" in request.headers else stored(b"")
    )
    write(bucket)
    fake_server.requests.clear()
    write(bucket)

    assert list(map(is_botocore, fake_server.requests)) == [False]


def test_conditional_writes_to_an_encrypting_store_are_left_to_botocore(bucket, fake_server):
    sent = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    headers = {"x-amz-server-side-encryption": "aws:kms", "x-amz-checksum-sha256": sent}
    fake_server.answer = Shelf(etag="of-the-cipher", headers=headers)

    assert write(bucket).version == "of-the-cipher"
    fake_server.requests.clear()
    write(bucket, "of-the-cipher")
    assert list(map(is_botocore, fake_server.requests)) == [True]
