"""Params that some stores and buckets of S3 need, in every client: listing, reading, writing."""

from __future__ import annotations

import base64

import pytest

from ls_pipeline.domain.errors import BucketError, ObjectRefusedError
from ls_pipeline.resources.s3.bucket import PART, S3Buckets, S3Options
from ls_pipeline.resources.s3.fast_objects import md5
from ls_pipeline.resources.s3.resource import s3_buckets
from ls_pipeline.resources.s3.writing import Writing
from tests.contracts.conftest import Answer

ACCESS_POINT = "arn:aws:s3:eu-west-3:123456789012:accesspoint:labels"
EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class Store:
    """Answers requests about one object as S3 does, but refuses headers that begin as given."""

    def __init__(self, *refused, encrypts=False):
        self.refused, self.encrypts = refused, encrypts
        self.body = b"abc"
        self.parts = {}

    def __call__(self, request):
        return self._refusal(request) or self._of_parts(request) or self._answer(request)

    def _refusal(self, request):
        names = request.headers if request.method in {"PUT", "POST"} else ()
        for name in filter(lambda name: name.startswith(self.refused), names):
            message = f"Unsupported header '{name}' received for this API call."
            body = f"<Error><Code>InvalidArgument</Code><Message>{message}</Message></Error>"
            return Answer(body.encode(), 400)
        return None

    def _of_parts(self, request):
        if request.path.endswith("?uploads"):
            return Answer(b"<R><UploadId>1</UploadId></R>")
        if "partNumber=" in request.path:
            number = int(request.path.partition("partNumber=")[2].partition("&")[0])
            self.parts[number] = request.body
            return Answer(headers={"ETag": f'"{md5(request.body)}"'})
        if request.method == "POST":
            self.body = b"".join(self.parts[number] for number in sorted(self.parts))
            return Answer(b'<R><ETag>"e"</ETag></R>')
        return None

    def _answer(self, request):
        if "list-type=2" in request.path:
            return Answer(self._listing())
        if request.method == "GET":
            return Answer(self.body, headers={"ETag": f'"{self.etag}"'})
        self.body = request.body
        encryption = {"x-amz-server-side-encryption": "AES256"} if self.encrypts else {}
        return Answer(headers={"ETag": f'"{self.etag}"', **encryption})

    @property
    def etag(self):
        if not self.parts:
            return md5(self.body)
        digests = b"".join(bytes.fromhex(md5(self.parts[n])) for n in sorted(self.parts))
        return f"{md5(digests)}-{len(self.parts)}"

    def _listing(self):
        contents = (
            f"<Contents><Key>k</Key><ETag>{self.etag}</ETag><Size>{len(self.body)}</Size>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        )
        return EMPTY.replace(b"</ListBucketResult>", contents.encode() + b"</ListBucketResult>")


@pytest.fixture
def keys(environment):
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return environment


@pytest.fixture
def through_proxy(keys, fake_server):
    """Let the fake server answer for every host."""
    fake_server.answer = Store()
    keys.setenv("HTTP_PROXY", fake_server.url)
    return fake_server


def opened(fake_server, buckets=None, **writing):
    options = S3Options(endpoint_url=fake_server.url, writing=Writing(**writing))
    return (buckets or S3Buckets(max_attempts=1)).open("pictures", options)


def use(bucket):
    """List, read and write in every way."""
    (page,) = bucket.pages()
    (stored,) = page
    bucket.get("k", stored.version)
    bucket.get("k")
    bucket.put("k", b"abc", "text/plain")
    bucket.put("k k", b"abc", "text/plain")
    bucket.copy("k", "l")
    bucket.delete("k")


@pytest.fixture(params=[S3Buckets, s3_buckets], ids=["commands", "dagster"])
def buckets(request):
    return request.param()


@pytest.mark.parametrize(
    ("style", "address"),
    [("virtual", "http://pictures.s3.example.com/"), ("path", "http://s3.example.com/pictures")],
)
def test_every_request_names_the_bucket_in_the_style(through_proxy, buckets, style, address):
    options = S3Options(endpoint_url="http://s3.example.com", addressing_style=style)
    use(buckets.open("pictures", options))

    assert [each.path for each in through_proxy.requests if not each.path.startswith(address)] == []
    assert len(through_proxy.requests) >= 7


def test_every_request_goes_below_the_path_of_the_endpoint(keys, fake_server):
    fake_server.answer = Store()
    options = S3Options(endpoint_url=f"{fake_server.url}/storage/v1/s3")
    use(S3Buckets(max_attempts=1).open("pictures", options))

    paths = {request.path.partition("?")[0] for request in fake_server.requests}
    assert {path[: len("/storage/v1/s3/pictures")] for path in paths} == {"/storage/v1/s3/pictures"}


def test_every_request_to_an_access_point_goes_to_its_region(through_proxy, buckets):
    through_proxy.answer = Store()
    options = S3Options(endpoint_url="http://s3.example.com", region_name="us-east-2")
    use(buckets.open(ACCESS_POINT, options))
    hosts = {request.path.split("/")[2] for request in through_proxy.requests}
    scopes = {
        request.headers["authorization"].partition("Credential=")[2].split("/")[2]
        for request in through_proxy.requests
    }

    assert hosts == {"labels-123456789012.s3.example.com"}
    assert scopes == {"eu-west-3"}


def test_every_request_says_who_pays(keys, fake_server, buckets):
    fake_server.answer = Store()
    options = S3Options(endpoint_url=fake_server.url, requester_pays=True)
    use(buckets.open("pictures", options))

    payers = {request.headers.get("x-amz-request-payer") for request in fake_server.requests}
    assert payers == {"requester"}


def test_no_request_says_who_pays_by_default(keys, fake_server):
    fake_server.answer = Store()
    use(opened(fake_server))

    assert not any("x-amz-request-payer" in request.headers for request in fake_server.requests)


def checksums(request):
    return {
        name
        for name in request.headers
        if name == "content-md5" or name.startswith(("x-amz-checksum", "x-amz-sdk"))
    }


@pytest.mark.parametrize("key", ["k", "k k"], ids=["obstore", "botocore"])
@pytest.mark.parametrize(
    ("kind", "sent"),
    [("sha256", {"x-amz-checksum-sha256"}), ("md5", {"content-md5"}), ("none", set())],
)
def test_put_sends_the_checksum_that_is_set(keys, fake_server, key, kind, sent):
    fake_server.answer = Store()
    stored = opened(fake_server, checksum=kind).put(key, b"abc", "text/plain")
    (request,) = fake_server.requests

    assert checksums(request) == sent
    assert stored.version == md5(b"abc")


def test_store_that_refuses_the_checksum_gets_another_and_is_remembered(keys, fake_server):
    fake_server.answer = Store("x-amz-checksum-", "x-amz-sdk-checksum")
    bucket = opened(fake_server)
    bucket.put("k", b"abc", "text/plain")
    first = len(fake_server.requests)
    bucket.put("k", b"abc", "text/plain")

    assert [checksums(request) for request in fake_server.requests[first:]] == [{"content-md5"}]
    digest = base64.b64encode(bytes.fromhex(md5(b"abc"))).decode()
    assert fake_server.requests[-1].headers["content-md5"] == digest


def test_store_that_refuses_every_checksum_gets_none(keys, fake_server):
    fake_server.answer = Store("x-amz-checksum-", "x-amz-sdk-checksum", "content-md5")
    bucket = opened(fake_server)
    bucket.put("k", b"abc", "text/plain")

    assert bucket.put("k", b"abc", "text/plain").version == md5(b"abc")
    assert checksums(fake_server.requests[-1]) == set()


def test_checksum_that_is_set_is_not_replaced_by_another(keys, fake_server):
    fake_server.answer = Store("x-amz-checksum-")

    with pytest.raises(ObjectRefusedError, match="Unsupported header 'x-amz-checksum-sha256'"):
        opened(fake_server, checksum="sha256").put("k", b"abc", "text/plain")


def test_refusal_for_another_reason_stays_the_reason(keys, fake_server):
    fake_server.answer = Store("content-type")

    with pytest.raises(ObjectRefusedError, match="Unsupported header 'content-type'"):
        opened(fake_server).put("k", b"abc", "text/plain")
    fake_server.answer = Store()
    assert checksums_of_next_put(fake_server) == {"x-amz-checksum-sha256"}


def checksums_of_next_put(fake_server):
    opened(fake_server).put("k", b"abc", "text/plain")
    return checksums(fake_server.requests[-1])


@pytest.mark.parametrize("loses", [False, True], ids=["whole", "damaged"])
def test_file_in_parts_without_a_checksum_is_compared(keys, fake_server, tmp_path, loses):
    class Lossy(Store):
        def __call__(self, request):
            if loses and "partNumber=2" in request.path:
                self.parts[2] = b"x" * len(request.body)
                return Answer(headers={"ETag": '"e"'})
            return super().__call__(request)

    fake_server.answer = Lossy("x-amz-checksum-", "x-amz-sdk-checksum")
    file = tmp_path / "file"
    file.write_bytes(b"a" * PART + b"b")
    bucket = opened(fake_server)

    if loses:
        with pytest.raises(BucketError, match="did not confirm"):
            bucket.put_file("k", file, "text/plain")
    else:
        assert bucket.put_file("k", file, "text/plain").size == PART + 1


def test_encryption_that_a_policy_demands_is_sent(keys, fake_server):
    fake_server.answer = Store(encrypts=True)
    bucket = opened(fake_server, server_side_encryption="AES256")
    bucket.put("k", b"abc", "text/plain")
    bucket.copy("k", "l")

    sent = [each.headers.get("x-amz-server-side-encryption") for each in fake_server.requests]
    assert sent == ["AES256", "AES256"]


def test_policy_of_the_bucket_that_denies_points_to_the_encryption(keys, fake_server):
    message = (
        "not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy"
    )
    error = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>"
    fake_server.answer = Answer(error.encode(), 403)

    with pytest.raises(BucketError, match=r"If it demands an encryption, set server_side_enc"):
        opened(fake_server).put("k", b"abc", "text/plain")


def test_store_that_ignores_the_encryption_is_an_error(keys, fake_server):
    fake_server.answer = Store()

    with pytest.raises(BucketError, match=r"without encrypting it as the params say \(AES256\)"):
        opened(fake_server, server_side_encryption="AES256").put("k", b"abc", "text/plain")


@pytest.mark.server
def test_params_work_on_a_real_server(environment, s3_server, tmp_path):
    import boto3

    for name, value in s3_server.client_environment.items():
        environment.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="params")
    options = S3Options(
        addressing_style="path",
        requester_pays=True,
        writing=Writing(server_side_encryption="AES256", checksum="md5"),
    )
    bucket = S3Buckets().open("params", options)
    file = tmp_path / "file"
    file.write_bytes(b"a" * (PART + 1))
    bucket.put("small", b"abc", "text/plain")
    large = bucket.put_file("large", file, "text/plain")

    assert bucket.get("large", large.version) == file.read_bytes()
    for key in ("small", "large"):
        assert client.head_object(Bucket="params", Key=key)["ServerSideEncryption"] == "AES256"
