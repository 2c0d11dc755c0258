"""Answers of stores and proxies that are not quite S3's: taken, or named in one sentence."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import pytest

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketUnavailableError,
    ObjectRefusedError,
)
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.s3.bucket import S3Buckets, S3Options
from ls_pipeline.resources.s3.errors import NoAnswerError
from ls_pipeline.resources.s3.fast_objects import md5
from tests.contracts.conftest import Answer, s3_refusal

ITEM = (
    "<Contents><Key>k</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
    f"<ETag>{md5(b'abc')}</ETag><Size>3</Size></Contents>"
)
STORED = Answer(b"abc", headers={"ETag": f'"{md5(b"abc")}"'})
PAGE = Answer(b"<html>Log in</html>", headers={"content-type": "text/html"})


def listing(items=ITEM, rest="<IsTruncated>false</IsTruncated>"):
    return Answer(f"<ListBucketResult>{rest}{items}</ListBucketResult>".encode())


@pytest.fixture
def bucket(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return S3Buckets(max_attempts=1).open("b", S3Options(endpoint_url=fake_server.url))


def uses(bucket):
    return [lambda: list(bucket.pages()), lambda: bucket.get("k"), lambda: put(bucket)]


def put(bucket):
    return bucket.put("k k", b"abc", "text/plain")  # with botocore


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect_is_named_and_not_followed(bucket, fake_server, status):
    place = {"location": "https://login.example.com/sso?state=secret"}
    fake_server.answer = Answer(b"<html>moved</html>", status, place)
    for use in uses(bucket):
        with pytest.raises(
            BucketError, match=r"S3 redirects to https://login\.example\.com/sso\. C"
        ):
            use()

    assert len(fake_server.requests) <= 4


def test_redirect_of_s3_names_its_endpoint(bucket, fake_server):
    body = b"<Error><Code>TemporaryRedirect</Code><Endpoint>b.example.com</Endpoint></Error>"
    fake_server.answer = Answer(body, 307)

    with pytest.raises(BucketError, match=r"S3 redirects to b\.example\.com\. Correct endpoint"):
        list(bucket.pages())


@pytest.mark.parametrize(
    ("status", "kind"), [(404, BucketError), (403, BucketAccessError), (413, BucketError)]
)
def test_refusal_of_another_server_names_the_address(bucket, fake_server, status, kind):
    fake_server.answer = replace(PAGE, status=status)
    for use in uses(bucket):
        with pytest.raises(kind, match=rf"not S3 refuses the request \(status {status}\)\. Check"):
            use()


def test_request_that_a_store_does_not_know_is_not_to_be_tried_again(bucket, fake_server):
    fake_server.answer = s3_refusal("NotImplemented", 501)
    for use in uses(bucket):
        with pytest.raises(BucketError, match=r"refused \(NotImplemented: Said so\)\.$"):
            use()


def test_denial_by_a_service_control_policy_points_to_the_encryption(bucket, fake_server):
    message = "with an explicit deny in a service control policy"
    body = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>"
    fake_server.answer = Answer(body.encode(), 403)

    with pytest.raises(BucketAccessError, match="If it demands an encryption, set server_side"):
        put(bucket)


def test_connection_that_is_closed_on_a_write_is_unavailable(bucket, fake_server):
    def close(_request):
        raise ConnectionResetError

    fake_server.answer = close

    with pytest.raises(BucketUnavailableError, match="does not answer"):
        put(bucket)


def test_time_that_ends_after_an_answer_is_not_a_silence():
    said = [NoAnswerError("http://s3", status).failure.what for status in (0, 503)]

    assert said == [
        "S3 does not answer (http://s3 left a request without an answer)",
        "S3 can't answer now (503)",
    ]


def test_proxy_that_does_not_answer_is_named_with_its_variable(environment):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", "")
    options = S3Options(endpoint_url="http://s3.example.com", region_name="eu-west-3")

    with pytest.raises(BucketUnavailableError, match=r"127\.0\.0\.1:9.*Correct HTTP_PROXY or"):
        list(S3Buckets(max_attempts=1).open("b", options).pages())


def test_store_without_https_is_named(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    url = fake_server.url.replace("http:", "https:")
    options = S3Options(endpoint_url=url, region_name="eu-west-3")

    with pytest.raises(BucketUnavailableError, match="write http:// in endpoint_url"):
        list(S3Buckets(max_attempts=1).open("b", options).pages())


# -- listings -----------------------------------------------------------------------------


def found(bucket):
    return [(each.key, each.version, each.size) for page in bucket.pages() for each in page]


@pytest.mark.parametrize(
    "answer",
    [
        listing(ITEM.replace(md5(b"abc"), f'W/"{md5(b"abc")}"')),
        listing(ITEM.replace("<LastModified>2026-01-01T00:00:00Z</LastModified>", "")),
        listing(ITEM.replace("<Size>", "<Owner><DisplayName>Size</DisplayName></Owner><Size>")),
        replace(
            listing(), body=gzip.compress(listing().body), headers={"content-encoding": "gzip"}
        ),
    ],
    ids=["weak ETag", "no time", "owner", "compressed"],
)
def test_listing_in_an_unusual_form_is_read(bucket, fake_server, answer):
    fake_server.answer = answer

    assert found(bucket) == [("k", md5(b"abc"), 3)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (listing(ITEM.replace(md5(b"abc"), "")), r" \(an object has no ETag\)"),
        (listing(ITEM.replace("<Size>3</Size>", "")), r" \(an object has no Size\)"),
        (listing(rest="<IsTruncated>true</IsTruncated>"), ""),
        (listing(rest="<IsTruncated>true</IsTruncated><NextMarker>k</NextMarker>"), ""),
        (Answer(listing().body[:-30]), ""),
        (PAGE, ""),
        (Answer(), ""),
    ],
    ids=["no ETag", "no size", "no token", "version 1", "cut off", "page", "empty"],
)
def test_listing_that_is_not_complete_is_refused(bucket, fake_server, answer, reason):
    fake_server.answer = answer

    with pytest.raises(BucketUnavailableError, match=f"is not a complete listing{reason}\\. Check"):
        found(bucket)


def test_folder_without_an_etag_is_listed(bucket, fake_server):
    fake_server.answer = listing("<Contents><Key>d/</Key><ETag></ETag><Size>0</Size></Contents>")

    assert found(bucket) == [("d/", "", 0)]


# -- ETags --------------------------------------------------------------------------------


def test_weak_etag_of_a_proxy_that_compresses_is_the_version(bucket, fake_server):
    tag = f"{md5(b'abc')}-2"
    fake_server.answer = Answer(b"abc", headers={"ETag": f'W/"{tag}"'})

    assert bucket.get("k", tag) == b"abc"


def test_google_is_asked_for_the_bytes_as_stored(bucket, fake_server):
    stored = gzip.compress(b"abc")

    def answer(request):
        has_gzip = request.headers["accept-encoding"] == "gzip"
        headers = {"ETag": f'"{md5(stored)}-1"', "x-goog-stored-content-encoding": "gzip"}
        encoding = {"content-encoding": "gzip"} if has_gzip else {}
        return Answer(stored if has_gzip else b"abc", headers={**headers, **encoding})

    fake_server.answer = answer
    file = io.BytesIO()
    bucket.download(StoredObject("k", f"{md5(stored)}-1", len(stored)), file)

    assert bucket.get("k", f"{md5(stored)}-1") == file.getvalue() == stored
    assert all("encoding" not in each.headers["authorization"] for each in fake_server.requests)


@pytest.mark.parametrize("answer", [s3_refusal("PreconditionFailed", 412), STORED])
def test_object_that_is_listed_with_another_etag_is_refused(bucket, fake_server, answer):
    other = listing(ITEM.replace(md5(b"abc"), "other"))
    fake_server.answer = lambda request: other if "list-type" in request.path else answer

    with pytest.raises(ObjectRefusedError, match="lists it with another ETag than it delivers"):
        bucket.get("k", "other")


@pytest.mark.parametrize("held", [b"abc", b"other"])
def test_write_without_an_etag_is_read_back(bucket, fake_server, held):
    def answer(request):
        if request.method == "PUT":
            return Answer()
        tag = md5(held)
        items = ITEM.replace(md5(b"abc"), tag).replace("<Size>3", f"<Size>{len(held)}")
        is_list = "list-type" in request.path
        return listing(items) if is_list else Answer(held, headers={"ETag": f'"{tag}"'})

    fake_server.answer = answer

    if held == b"abc":
        assert bucket.put("k", b"abc", "text/plain").version == md5(b"abc")
    else:
        with pytest.raises(BucketUnavailableError, match="did not confirm"):
            bucket.put("k", b"abc", "text/plain")


def test_signature_that_a_checksum_breaks_is_tried_without(bucket, fake_server):
    def answer(request):
        is_broken = "x-amz-checksum-sha256" in request.headers
        good = replace(STORED, body=b"")
        return s3_refusal("SignatureDoesNotMatch", 403) if is_broken else good

    fake_server.answer = answer

    assert bucket.put("k", b"abc", "text/plain").version == md5(b"abc")
