"""A connection's options for its S3 bucket: endpoint, region, role, key."""

from __future__ import annotations

import itertools
import re
import traceback
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from ls_pipeline.cli.servers import local_servers
from ls_pipeline.cli.servers import server as servers
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketUnavailableError,
    ObjectRefusedError,
)
from ls_pipeline.resources.s3.bucket import Keys, S3Buckets, S3Options
from ls_pipeline.resources.s3.writing import Writing
from ls_pipeline.settings.model import Source, Target
from tests.contracts.conftest import Answer, s3_refusal

ROLE = "arn:aws:iam::123456789012:role/labels"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
ETAG = {"ETag": '"e"'}
EMPTY = Answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def assumed(lifetime):
    """Return STS's answers: each has new keys, which expire after ``lifetime`` seconds."""
    numbers = itertools.count(1)

    def answer(_request):
        number = next(numbers)
        expires = datetime.now(timezone.utc) + timedelta(seconds=lifetime)
        return Answer(
            f"<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>ASIA{number}</AccessKeyId>"
            f"<SecretAccessKey>secret-of-the-role</SecretAccessKey>"
            f"<SessionToken>token-{number}</SessionToken>"
            f"<Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            f"</Credentials></AssumeRoleResult></AssumeRoleResponse>".encode()
        )

    return answer


def sts_refusal(code, status):
    error = f"<Error><Code>{code}</Code><Message>Said so.</Message></Error>"
    return Answer(f"<ErrorResponse>{error}</ErrorResponse>".encode(), status)


def params_of(request):
    return dict(urllib.parse.parse_qsl(request.body.decode()))


def signer(request):
    """Return the access key and the region that a request was signed with."""
    scope = re.search(r"Credential=([^,]+)", request.headers["authorization"]).group(1)
    key, _day, region, _service, _end = scope.split("/")
    return key, region


@pytest.fixture
def own_credentials(environment):
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    return environment


@pytest.fixture
def store(fake_server):
    fake_server.answer = EMPTY
    return fake_server


@pytest.fixture
def in_role(own_credentials, store, sts):
    """Return a bucket in a role; its store and STS are two servers."""
    own_credentials.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    own_credentials.setenv("AWS_DEFAULT_REGION", "us-east-1")
    sts.answer = assumed(3600)
    options = S3Options(endpoint_url=store.url, role_arn=ROLE, external_id="partner-7")
    return S3Buckets(max_attempts=1).open("b", options)


def test_role_is_assumed_with_the_keys_of_the_resource(own_credentials, in_role, store, sts):
    resource = S3Buckets(max_attempts=1, keys=Keys("AKIATEAM", "secret-of-the-team"))
    list(resource.open("b", S3Options(endpoint_url=store.url, role_arn=ROLE)).pages())

    assert signer(sts.requests[0])[0] == "AKIATEAM"
    assert signer(store.requests[0])[0] != "AKIATEAM"


@pytest.fixture
def with_key(own_credentials, store):
    options = S3Options(endpoint_url=store.url, writing=Writing(kms_key_id=KEY))
    return S3Buckets(max_attempts=1).open("b", options)


# -- endpoint and region ------------------------------------------------------------------


def test_requests_are_signed_for_the_region(own_credentials, store):
    options = S3Options(endpoint_url=store.url, region_name="eu-west-3")
    list(S3Buckets(region_name="us-east-2").open("b", options).pages())

    assert signer(store.requests[0]) == ("AKIAOWN", "eu-west-3")


def test_empty_options_fall_back_to_the_resource(own_credentials, store):
    resource = S3Buckets(region_name="us-east-2", endpoint_url=store.url)
    list(resource.open("b", S3Options(writing=Writing(kms_key_id=KEY))).pages())

    assert signer(store.requests[0]) == ("AKIAOWN", "us-east-2")


def test_two_endpoints_reach_two_stores(own_credentials, fake_server, sts):
    fake_server.answer, sts.answer = (Answer(body, headers=ETAG) for body in (b"one", b"two"))
    resource = S3Buckets()
    first, second = (
        resource.open("b", S3Options(endpoint_url=at.url)) for at in (fake_server, sts)
    )

    assert [first.get("k"), second.get("k"), first.get("k")] == [b"one", b"two", b"one"]


def test_same_options_share_a_client_across_threads(own_credentials):
    resource = S3Buckets()
    options = [
        S3Options(region_name="eu-west-3", writing=Writing(kms_key_id=str(n))) for n in range(16)
    ]
    with ThreadPoolExecutor(16) as threads:
        opened = list(threads.map(lambda option: resource.open("b", option), options))

    assert len({id(bucket.client) for bucket in opened}) == 1


def test_params_of_source_and_target_are_options(own_credentials, store):
    store.answer = lambda request: (
        Answer(headers={"ETag": '"e"', "x-amz-server-side-encryption": "aws:kms"})
        if request.method == "PUT"
        else Answer(b"abc", headers=ETAG)
    )
    params = {"endpoint_url": store.url, "region_name": "eu-west-3"}
    source = Source(type="s3", path="b", params=params)
    target = Target(type="s3-completions", path="b", params={**params, "kms_key_id": KEY})
    s3 = S3Buckets()
    s3.bucket_of(source).get("k")
    s3.bucket_of(target).put("k", b"abc", "text/plain")

    key = [
        request.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
        for request in store.requests
    ]
    assert key[:2] == [None, KEY]
    assert {signer(request)[1] for request in store.requests} == {"eu-west-3"}


# -- role ---------------------------------------------------------------------------------


def test_role_is_assumed_with_own_credentials_and_external_id(in_role, sts):
    list(in_role.pages())
    (request,) = sts.requests
    sent = params_of(request)

    assert signer(request) == ("AKIAOWN", "us-east-1")
    assert (sent["Action"], sent["RoleArn"], sent["ExternalId"], sent["RoleSessionName"]) == (
        "AssumeRole",
        ROLE,
        "partner-7",
        "ls_pipeline",
    )


def test_bucket_is_listed_in_its_role(in_role, store):
    list(in_role.pages())
    (request,) = store.requests

    assert signer(request)[0] == "ASIA1"
    assert request.headers["x-amz-security-token"] == "token-1"


def test_external_id_is_sent_only_if_set(in_role, store, sts):
    list(S3Buckets().open("b", S3Options(endpoint_url=store.url, role_arn=ROLE)).pages())

    assert "ExternalId" not in params_of(sts.requests[-1])


def test_opening_a_bucket_does_not_call_sts(in_role, sts):
    assert sts.requests == []


def test_role_is_assumed_once_while_it_lasts(in_role, sts):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: list(in_role.pages()), range(16)))

    assert len(sts.requests) == 1


def test_role_that_is_about_to_expire_is_renewed(in_role, store, sts):
    sts.answer = assumed(60)
    list(in_role.pages())
    list(in_role.pages())

    assert [signer(request)[0] for request in store.requests] == ["ASIA1", "ASIA2"]


USES = [
    lambda bucket: list(bucket.pages()),
    lambda bucket: bucket.get("k", "v"),
    lambda bucket: bucket.put("k", b"", "text/plain"),
]


@pytest.mark.parametrize("use", USES, ids=["list", "get", "put"])
@pytest.mark.parametrize(
    ("code", "status", "error", "advice"),
    [
        ("AccessDenied", 403, BucketAccessError, "Allow these credentials sts:AssumeRole"),
        ("InvalidClientTokenId", 403, BucketAccessError, "Check the AWS credentials"),
        ("ExpiredToken", 400, BucketAccessError, "Check the AWS credentials"),
        ("RegionDisabledException", 403, BucketAccessError, "another"),
        ("Throttling", 400, BucketUnavailableError, "Try again"),
        ("InternalFailure", 500, BucketUnavailableError, "Try again"),
    ],
)
def test_refused_role_says_what_to_do(in_role, sts, use, code, status, error, advice):
    sts.answer = sts_refusal(code, status)

    with pytest.raises(error, match=f"^s3://b/k?: .*{ROLE}.*{advice}") as caught:
        use(in_role)

    assert "secret" not in str(caught.value)


def test_refused_role_is_requested_again(in_role, sts):
    sts.answer = sts_refusal("AccessDenied", 403)
    with pytest.raises(BucketAccessError):
        list(in_role.pages())
    sts.answer = assumed(3600)

    assert list(in_role.pages()) == []


def test_role_without_credentials_says_what_to_set(in_role, own_credentials):
    own_credentials.delenv("AWS_ACCESS_KEY_ID")
    own_credentials.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(BucketAccessError, match=f"role {ROLE} can't be assumed.*AWS_ACCESS_KEY_ID"):
        list(in_role.pages())


def test_role_without_a_region_says_what_to_set(in_role, own_credentials):
    own_credentials.delenv("AWS_DEFAULT_REGION")

    with pytest.raises(BucketError, match="Set region_name"):
        list(in_role.pages())


def test_sts_that_does_not_answer_is_unavailable(in_role, own_credentials):
    own_credentials.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")

    with pytest.raises(BucketUnavailableError, match=f"{ROLE}.*AWS_ENDPOINT_URL_STS"):
        list(in_role.pages())


def test_sts_with_an_invalid_answer_is_unavailable(in_role, sts):
    sts.answer = Answer(b"<html><body>Log in</body></html>")

    with pytest.raises(BucketUnavailableError, match=ROLE):
        list(in_role.pages())


@pytest.mark.parametrize("use", USES, ids=["list", "get", "put"])
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_key_with_a_line_break_is_named_but_not_shown(own_credentials, store, name, use):
    own_credentials.setenv(name, "secret-of-ours\n")

    with pytest.raises(BucketAccessError, match=f"{name} holds a line break") as caught:
        use(S3Buckets(max_attempts=1).open("b", S3Options(endpoint_url=store.url)))
    assert "secret-of" not in "".join(traceback.format_exception(caught.value))


def test_no_secret_is_shown(in_role, caplog, sts):
    caplog.set_level("INFO")
    list(in_role.pages())
    sts.answer = sts_refusal("AccessDenied", 403)

    assert "secret-of" not in repr(in_role) + repr(S3Buckets()) + caplog.text


# -- KMS ----------------------------------------------------------------------------------


def test_kms_key_is_sent_with_each_put(with_key, store):
    headers = {
        "ETag": '"900150983cd24fb0d6963f7d28e17f72"',
        "x-amz-server-side-encryption": "aws:kms",
    }
    store.answer = Answer(headers=headers)
    with_key.put("k", b"abc", "text/plain")
    headers = store.requests[0].headers

    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == KEY


def test_store_that_does_not_encrypt_is_an_error(with_key, store):
    store.answer = Answer(headers={"ETag": '"900150983cd24fb0d6963f7d28e17f72"'})

    with pytest.raises(BucketError, match="without encrypting"):
        with_key.put("k", b"abc", "text/plain")


@pytest.mark.parametrize("held", [b"abc", b"other"], ids=["these bytes", "others"])
def test_encrypted_object_without_a_checksum_is_read_back(with_key, store, held):
    answer = Answer(headers={"ETag": '"of-the-cipher"', "x-amz-server-side-encryption": "aws:kms"})
    read = Answer(held, headers={"ETag": '"of-the-cipher"'})
    store.answer = lambda request: answer if request.method == "PUT" else read

    if held == b"abc":
        assert with_key.put("k", b"abc", "text/plain").version == "of-the-cipher"
    else:
        with pytest.raises(BucketUnavailableError, match="did not confirm"):
            with_key.put("k", b"abc", "text/plain")


@pytest.mark.parametrize(
    ("code", "status", "error", "advice"),
    [
        ("KMS.NotFoundException", 400, ObjectRefusedError, "Correct kms_key_id"),
        ("KMS.DisabledException", 400, ObjectRefusedError, "enabled, then run ls-pipeline quar"),
        ("KMS.KMSInvalidStateException", 400, ObjectRefusedError, "Repair the key"),
        ("KMS.ThrottlingException", 400, BucketUnavailableError, "Try again"),
    ],
)
def test_refusal_of_kms_says_what_to_do(with_key, store, code, status, error, advice):
    store.answer = s3_refusal(code, status)

    with pytest.raises(error, match=advice) as caught:
        with_key.put("k", b"abc", "text/plain")

    assert caught.type is error


def test_forbidden_key_differs_from_a_forbidden_bucket(with_key, store):
    message = b"not authorized to perform: kms:GenerateDataKey on resource: " + KEY.encode()
    body = b"<Error><Code>AccessDenied</Code><Message>%b</Message></Error>" % message
    store.answer = Answer(body, 403)

    with pytest.raises(BucketAccessError, match=rf"{KEY}.*Allow .* kms:GenerateDataKey"):
        with_key.put("k", b"abc", "text/plain")


# -- on a real server ---------------------------------------------------------------------


@pytest.fixture
def real_s3(environment, s3_server):
    for name, value in s3_server.client_environment.items():
        environment.setenv(name, value)
    return environment


@pytest.mark.server
def test_object_is_encrypted_with_the_key(real_s3):
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="with-key")
    key = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
    bucket = S3Buckets().open("with-key", S3Options(writing=Writing(kms_key_id=key)))
    stored = bucket.put("k", b"abc", "text/plain")
    head = client.head_object(Bucket="with-key", Key="k")

    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    assert bucket.get("k", stored.version) == b"abc"


@pytest.mark.server
def test_bucket_in_a_role_is_written_and_read(real_s3):
    import boto3

    boto3.client("s3").create_bucket(Bucket="in-role")
    bucket = S3Buckets().open("in-role", S3Options(role_arn=ROLE, external_id="partner-7"))
    bucket.put("k", b"abc", "text/plain")

    assert bucket.get("k") == b"abc"


@pytest.mark.server
def test_connections_with_separate_endpoints_reach_two_servers(real_s3, s3_server, logs):
    import boto3

    second = local_servers.s3_server(logs)
    second.log = logs / "s3-second.log"
    resource = S3Buckets()
    with servers.running([second]):
        opened = []
        for at in (s3_server, second):
            boto3.client("s3", endpoint_url=at.url).create_bucket(Bucket="twice")
            opened.append(resource.open("twice", S3Options(endpoint_url=at.url)))
        opened[0].put("first", b"1", "text/plain")
        opened[1].put("second", b"2", "text/plain")

        assert [[stored.key for stored in next(bucket.pages())] for bucket in opened] == [
            ["first"],
            ["second"],
        ]
