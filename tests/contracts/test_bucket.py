"""One suite for every Bucket: in memory, on S3, on GCS."""

import contextlib
import gzip
import io
import itertools
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.listing_ranges import ListingRange, RangeBoundary
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.s3.fast_list import FastListTransport
from tests.contracts.conftest import Answer, gcs_refusal, s3_refusal
from tests.contracts.memory_bucket import MemoryBucket

HOSTILE = [
    "a//b.json",
    "a/./b.json",
    "a/../b.json",
    "a b+c.json",
    "100%.json",
    "a%2Fb.json",
    "what?.json",
    "a#b&c=d.json",
    "naïve ☃ 😀.json",
    "e\u0301.json",
    "/a.json",
    "//",
    "<a>&amp;'\"\\.json",
    "\u202e\u2028\ufeff\ufffe.json",
    "\t\x01\x1f\x7f\x85.json",
    "line\r\nbreak.json",
    "k" * 1024,
    "é" * 512,
]

EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

numbers = itertools.count()


def memory(_request):
    return MemoryBucket(), MemoryBucket("absent", exists=False)


def s3(request, server="s3_server"):
    point_at(request, server)
    buckets = S3Buckets()
    bucket = buckets.open(f"bucket-{next(numbers)}")
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket, buckets.open("absent")


def s3_of_botocore(request):
    """Return S3 buckets that only botocore reads, as it does if versions are not MD5s."""
    request.getfixturevalue("environment").setattr(FastListTransport, "objects", lambda *_: None)
    return s3(request)


def gcs(request, server="gcs_server"):
    point_at(request, server)
    buckets = GCSBuckets()
    bucket = buckets.open(f"bucket-{next(numbers)}")
    bucket.client.create_bucket(bucket.name)
    return bucket, buckets.open("absent")


def point_at(request, server):
    environment = request.getfixturevalue("environment")
    for name, value in request.getfixturevalue(server).client_environment.items():
        environment.setenv(name, value)


@dataclass(frozen=True)
class Store:
    """A store, and what it can't do."""

    name: str
    open: Callable
    server: str = ""
    refuses: str = "(?!)"
    """A regular expression of the keys that it can't store or list."""
    has_conditions: bool = True
    page: int = 999
    """How many objects a page has at most, if that is not S3's own number."""

    def buckets(self, request):
        return self.open(request, self.server) if self.server else self.open(request)


STORES = {
    "memory": Store("", memory),
    "s3": Store("moto", s3, "s3_server", refuses="\n"),
    "s3_of_botocore": Store("moto", s3_of_botocore, refuses="\n"),
    "swift": Store("OpenStack Swift", s3, "swift_server", has_conditions=False, page=10),
    "ceph": Store("Ceph RADOS Gateway", s3, "ceph_server", refuses="[\x01\ufffe]"),
    "gcs": Store("gcp-storage-emulator", gcs, "gcs_server", refuses=r"\n|\.\./"),
    "fake_gcs": Store("fake-gcs-server", gcs, "fake_gcs_server", refuses="\n"),
}
"""docs/stores.md says the same in words."""

DOCS = Path(__file__).parents[2] / "docs/stores.md"


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.server if store.server else ())
        for name, store in STORES.items()
    ]
)
def store(request):
    return STORES[request.param]


@pytest.fixture
def buckets(request, store):
    return store.buckets(request)


@pytest.fixture
def bucket(buckets):
    return buckets[0]


@pytest.fixture
def absent(buckets):
    return buckets[1]


def test_each_store_is_in_the_docs():
    rows = re.findall(r"^\| ([^|,]+)(?:, [^|]+)? \| (?:S3|GCS) \|", DOCS.read_text(), re.MULTILINE)

    assert set(rows) == {store.name for store in STORES.values() if store.name}


def put(bucket, *keys):
    for key in keys:
        bucket.put(key, key.encode(), "text/plain")


def listed(bucket, **options):
    return [stored.key for page in bucket.pages(**options) for stored in page]


def test_empty_bucket_lists_no_page(bucket):
    assert list(bucket.pages()) == []


@pytest.mark.parametrize("size", [0, 9, 40_000_000])
def test_file_of_any_size_is_stored_whole(bucket, tmp_path, size):
    file = tmp_path / "file"
    file.write_bytes((b"content" * size)[:size])
    put(bucket, "a.zip")
    stored = bucket.put_file("a.zip", file, "application/zip")

    assert (stored.size, stored.version) == (size, bucket.version("a.zip"))
    assert bucket.get("a.zip") == file.read_bytes()


def test_file_that_can_not_be_stored_is_reported(absent, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 40_000_000)
    with pytest.raises(BucketNotFoundError):
        absent.put_file("a.zip", file, "application/zip")


def skip_unless_possible(store, key):
    if re.search(store.refuses, key):
        pytest.skip("the store does not take or list this key")


@pytest.fixture
def conditional(store, bucket):
    if not store.has_conditions:
        pytest.skip("the store ignores conditions of a put")
    return bucket


@pytest.mark.parametrize("key", HOSTILE)
def test_every_legal_key_comes_back_byte_for_byte(store, bucket, key):
    skip_unless_possible(store, key)
    put(bucket, key)

    assert (listed(bucket), bucket.get(key)) == ([key], key.encode())
    assert bucket.version(key) == next(bucket.pages())[0].version


def test_listing_is_in_the_order_of_utf8_bytes(bucket):
    keys = ["é", "a", "Z", "\uffee", "\U0001f600", "a/b", "a.b"]
    put(bucket, *keys)

    assert listed(bucket) == ["Z", "a", "a.b", "a/b", "é", "\uffee", "\U0001f600"]


def test_listing_takes_a_prefix_and_starts_after_a_key(bucket):
    put(bucket, "a/1", "b/1", "b/2", "b/3", "c/1")

    assert listed(bucket, prefix="b/", after="b/1") == ["b/2", "b/3"]


def test_listing_goes_on_over_pages(store, bucket):
    keys = [f"a/{n:05}" for n in range(store.page + 6)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda key: put(bucket, key), keys))
    lengths = [len(page) for page in bucket.pages()]

    assert len(lengths) > 1
    assert max(lengths) <= 1000
    assert listed(bucket) == keys
    assert listed(bucket, prefix="a/", after=keys[1]) == keys[2:]


def test_listing_is_the_same_whatever_the_boundaries(bucket):
    keys = [f"a/{n:02}" for n in range(20)]
    put(bucket, *keys)
    cut = [RangeBoundary(key, listed=n) for n, key in enumerate(["", "a/", keys[3], keys[18], "z"])]
    ranges = list(bucket.ranges(range_boundaries=cut))

    assert [stored.key for listing_range in ranges for stored in listing_range.objects] == keys
    assert [listing_range.through for listing_range in ranges] == [
        listing_range.objects[-1].key for listing_range in ranges
    ]


def test_range_is_unread_only_while_nothing_in_it_changes(bucket):
    put(bucket, "a/1", "a/2", "b/1", "b/2")
    whole = list(bucket.ranges())
    if not whole[0].fingerprint:
        pytest.skip("this bucket's answers have no fingerprints")
    cut = [RangeBoundary(whole[0].through, whole[0].fingerprint, 4)]
    same = [
        list(bucket.ranges(range_boundaries=cut)),
        list(bucket.ranges("a/", range_boundaries=cut)),
    ]
    bucket.put("b/1", b"other", "text/plain")
    [changed] = bucket.ranges(range_boundaries=cut)

    assert same[0] == [ListingRange("b/2", (), same=cut[0])]
    assert [stored.key for stored in same[1][0].objects] == ["a/1", "a/2"]
    assert [stored.key for stored in changed.objects] == ["a/1", "a/2", "b/1", "b/2"]


def test_listing_after_the_last_key_has_no_page(bucket):
    put(bucket, "a", "b")

    assert list(bucket.pages(after="b")) == []


def test_listing_starts_after_a_key_that_is_gone(bucket):
    put(bucket, "a", "c")

    assert listed(bucket, after="b") == ["c"]


@pytest.mark.parametrize("key", HOSTILE)
def test_listing_starts_after_every_legal_key(store, bucket, key):
    skip_unless_possible(store, key)
    put(bucket, key, "\U0001f600")

    assert listed(bucket, after=key) == ["\U0001f600"]


def test_listing_takes_a_hostile_prefix(bucket):
    put(bucket, "a+b %2F/1", "a b/2", "a+b /3")

    assert listed(bucket, prefix="a+b %2F/", after="a+b %2F/") == ["a+b %2F/1"]


def test_listing_returns_what_put_returned(bucket):
    stored = bucket.put("a", b"12345", "text/plain")
    stored = next(bucket.pages())[0]

    assert (stored.key, stored.version, stored.size) == (stored.key, stored.version, 5)


def test_folder_markers_are_listed(bucket):
    bucket.put("folder/", b"", "text/plain")

    assert listed(bucket) == ["folder/"]


def test_overwriting_changes_the_version(bucket):
    first = bucket.put("a", b"one", "text/plain")
    second = bucket.put("a", b"two", "text/plain")

    assert first.version != second.version


def test_version_is_that_of_the_last_put(bucket):
    for body in (b"one", b"two"):
        stored = bucket.put("a", body, "text/plain")

        assert bucket.version("a") == stored.version


def test_version_of_what_is_gone_is_empty(bucket):
    put(bucket, "a")
    bucket.delete("a")

    assert bucket.version("a") == bucket.version("nowhere") == ""


def test_version_belongs_to_the_whole_key(bucket):
    put(bucket, "a/10.json", "a/1.json.copy", "a/")
    stored = bucket.put("a/1", b"1", "text/plain")

    assert [bucket.version(key) for key in ("a", "a/1.json", "a/1")] == ["", "", stored.version]


def test_get_returns_the_version_that_was_listed(bucket):
    stored = bucket.put("a", b"one", "text/plain")

    assert bucket.get("a", stored.version) == b"one"


def test_get_of_a_replaced_version_says_changed(bucket):
    stored = bucket.put("a", b"one", "text/plain")
    bucket.put("a", b"two", "text/plain")

    with pytest.raises(ObjectChangedError, match="changed while it was read"):
        bucket.get("a", stored.version)


@pytest.mark.parametrize("size", [0, 1, 9 * 2**20])
def test_bytes_of_any_length_come_back(bucket, size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    stored = bucket.put("a", body, "application/octet-stream")

    assert (bucket.get("a", stored.version) == body, stored.size) == (True, size)


def test_download_writes_the_version_that_was_listed(bucket):
    body = bytes(range(256)) * 2**13
    stored = bucket.put("a", body, "application/octet-stream")
    file = io.BytesIO()
    bucket.download(stored, file)

    assert file.getvalue() == body


def test_download_of_an_empty_object_writes_nothing(bucket):
    file = io.BytesIO()
    bucket.download(bucket.put("a", b"", "text/plain"), file)

    assert file.getvalue() == b""


def test_download_of_a_replaced_version_says_changed(bucket):
    stored = bucket.put("a", b"one", "text/plain")
    bucket.put("a", b"two", "text/plain")

    with pytest.raises(ObjectChangedError):
        bucket.download(stored, io.BytesIO())


def test_download_of_what_is_gone_says_so(bucket):
    stored = bucket.put("a", b"one", "text/plain")
    bucket.delete("a")

    with pytest.raises(ObjectNotFoundError):
        bucket.download(stored, io.BytesIO())


def test_bucket_works_from_32_threads(bucket):
    keys = [f"{n:02}" for n in range(40)]
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda key: put(bucket, key), keys))
        bodies = list(threads.map(bucket.get, keys))

    assert bodies == [key.encode() for key in keys]


def test_get_of_a_version_that_is_gone_says_so(bucket):
    stored = bucket.put("nowhere", b"one", "text/plain")
    bucket.delete("nowhere")

    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        bucket.get("nowhere", stored.version)


def test_get_of_an_absent_object_says_so(bucket):
    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        bucket.get("nowhere")


def test_put_if_version_replaces_only_that_version(conditional):
    bucket = conditional
    first = bucket.put("a", b"1", "text/plain", if_version="")
    second = bucket.put("a", b"2", "text/plain", if_version=first.version)
    for stale in ("", first.version):
        with pytest.raises(ObjectChangedError, match="a: the object changed while it was written"):
            bucket.put("a", b"3", "text/plain", if_version=stale)

    assert bucket.get("a", second.version) == b"2"


@pytest.mark.parametrize("key", [*HOSTILE, "plain/1.json"])
def test_put_if_version_works_with_every_legal_key(store, conditional, key):
    skip_unless_possible(store, key)
    bucket = conditional
    put(bucket, f"{key}0".encode()[:1024].decode(errors="ignore"))
    first = bucket.put(key, b"1", "text/plain", if_version=bucket.version(key))
    second = bucket.put(key, b"2", "text/plain", if_version=first.version)
    with pytest.raises(ObjectChangedError):
        bucket.put(key, b"3", "text/plain", if_version=first.version)

    assert bucket.get(key, second.version) == b"2"


def test_put_if_absent_creates_again_what_was_deleted(bucket):
    put(bucket, "a/1")
    for body in (b"1", b"2"):
        stored = bucket.put("a", body, "text/plain", if_version="")

        assert bucket.get("a", stored.version) == body
        bucket.delete("a")


def test_put_if_version_that_was_already_written_returns_it(bucket):
    first = bucket.put("a", b"1", "text/plain", if_version="")
    second = bucket.put("a", b"2", "text/plain", if_version=first.version)
    repeated = [
        bucket.put("a", b"2", "text/plain", if_version=stale) for stale in ("", first.version)
    ]

    assert {stored.version for stored in repeated} == {second.version}
    assert {stored.size for stored in repeated} == {1}


def test_put_if_version_that_is_gone_says_changed(conditional):
    bucket = conditional
    stored = bucket.put("a", b"1", "text/plain")
    bucket.delete("a")
    with pytest.raises(ObjectChangedError, match="a"):
        bucket.put("a", b"2", "text/plain", if_version=stored.version)

    assert listed(bucket) == []


@pytest.mark.parametrize("key", ["a", "ü b/+%20#?.json"])
def test_copy_is_the_same_under_another_key(bucket, key):
    bucket.put(key, b"1", "text/plain")
    bucket.copy(key, f"{key}-copy")
    bucket.put(key, b"2", "text/plain")

    assert (bucket.get(f"{key}-copy"), listed(bucket)) == (b"1", [key, f"{key}-copy"])


def test_copy_of_an_absent_object_says_so(bucket):
    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        bucket.copy("nowhere", "there")


def test_copy_of_another_version_says_changed(bucket):
    version = bucket.put("a", b"1", "text/plain").version
    bucket.copy("a", "same", version=version)
    bucket.put("a", b"2", "text/plain")

    assert bucket.get("same") == b"1"
    with pytest.raises(ObjectChangedError, match="a"):
        bucket.copy("a", "other", version=version)


def test_copy_from_another_bucket_is_the_same(request, store, bucket):
    other, _ = store.buckets(request)
    stored = other.put("ü b/a.jpg", b"1", "image/jpeg")
    bucket.copy(stored.key, "to/a.jpg", source=other, version=stored.version)

    assert (bucket.get("to/a.jpg"), listed(other)) == (b"1", [stored.key])
    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        bucket.copy("nowhere", "there", source=other)


def test_equal_bytes_have_one_checksum(bucket):
    bodies = {"a": b"1", "b": b"1", "c": b"2"}
    first, same, other = (bucket.put(key, body, "text/plain") for key, body in bodies.items())

    assert bucket.checksum(first) == bucket.checksum(same) != bucket.checksum(other)


def test_delete_removes_an_object_and_ignores_an_absent_key(bucket):
    put(bucket, "a", "b")
    bucket.delete("a")
    bucket.delete("a")

    assert listed(bucket) == ["b"]


@pytest.mark.parametrize(
    "use",
    [
        lambda bucket: list(bucket.pages()),
        lambda bucket: bucket.version("a"),
        lambda bucket: bucket.get("a"),
        lambda bucket: bucket.put("a", b"", "text/plain"),
        lambda bucket: bucket.put("a", b"", "text/plain", if_version="1"),
        lambda bucket: bucket.copy("a", "b"),
        lambda bucket: bucket.delete("a"),
    ],
    ids=["pages", "version", "get", "put", "put if version", "copy", "delete"],
)
def test_missing_bucket_differs_from_a_missing_object(absent, use):
    with pytest.raises(BucketNotFoundError, match="the bucket does not exist"):
        use(absent)


@given(
    st.sets(st.text(st.characters(exclude_categories=("Cs",)), min_size=1) | st.text("ab/é😀")),
    st.text("ab/"),
    st.text("ab/é😀"),
)
def test_pages_join_to_the_keys_after_a_key(keys, prefix, after):
    bucket = MemoryBucket()
    put(bucket, *keys)

    assert listed(bucket, prefix=prefix, after=after) == sorted(
        key for key in keys if key.startswith(prefix) and key > after
    )


# -- S3 alone -----------------------------------------------------------------------------


@pytest.fixture
def faulty_s3(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    return S3Buckets(endpoint_url=fake_server.url, max_attempts=1).open("b")


@pytest.mark.server
def test_s3_returns_the_bytes_as_stored(request):
    bucket, _ = s3(request)
    body = gzip.compress(b"text")
    bucket.client.put_object(Bucket=bucket.name, Key="a", Body=body, ContentEncoding="gzip")
    [[stored]] = bucket.pages()

    assert bucket.get("a") == bucket.get("a", stored.version) == body


def test_s3_without_credentials_says_what_to_set():
    with pytest.raises(BucketAccessError, match="AWS_ACCESS_KEY_ID"):
        list(S3Buckets(endpoint_url="http://127.0.0.1:9").open("b").pages())


def test_s3_with_an_absent_profile_says_which():
    with pytest.raises(BucketAccessError, match=r"\(absent\).*AWS_PROFILE"):
        S3Buckets(profile_name="absent").open("b")


def test_s3_with_an_expired_login_says_what_to_set(environment, tmp_path):
    config = "[default]\nsso_session=s\nsso_account_id=1\nsso_role_name=r\n"
    session = "[sso-session s]\nsso_region=us-east-1\nsso_start_url=https://example.com\n"
    (tmp_path / "config").write_text(config + session)
    environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    with pytest.raises(BucketAccessError, match="SSO Token"):
        list(S3Buckets(endpoint_url="http://127.0.0.1:9").open("b").pages())


def test_s3_that_does_not_answer_is_unavailable(environment):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    nowhere = S3Buckets(endpoint_url="http://127.0.0.1:9", max_attempts=1)

    with pytest.raises(BucketUnavailableError, match="AWS_ENDPOINT_URL"):
        list(nowhere.open("b").pages())


def test_s3_truncated_body_is_an_error(faulty_s3, fake_server):
    fake_server.answer = Answer(b"abc", headers={"ETag": '"e"'}, announced=10)

    with pytest.raises(BucketUnavailableError):
        faulty_s3.get("k")


@pytest.mark.parametrize("headers", [{}, {"ETag": '"another"'}])
def test_s3_error_with_status_200_is_an_error(faulty_s3, fake_server, headers):
    error = Answer(b"<Error><Code>InternalError</Code></Error>", headers=headers)
    head = Answer(headers={"ETag": '"version"'})
    fake_server.answer = lambda request: head if request.method == "HEAD" else error

    with pytest.raises(BucketUnavailableError, match="the answer is not this object"):
        faulty_s3.get("k", "version")


@pytest.mark.parametrize("version", ["version", "900150983cd24fb0d6963f7d28e17f72"])
def test_s3_that_ignores_the_condition_of_a_get_says_changed(faulty_s3, fake_server, version):
    fake_server.answer = Answer(b"new", headers={"ETag": '"another"'})

    with pytest.raises(ObjectChangedError):
        faulty_s3.get("k", version)
    with pytest.raises(ObjectChangedError):
        faulty_s3.download(StoredObject("k", version, 3), io.BytesIO())


def test_s3_body_with_a_wrong_checksum_is_an_error(faulty_s3, fake_server):
    fake_server.answer = Answer(b"abc", headers={"ETag": '"e"', "x-amz-checksum-crc32": "AAAAAA=="})

    with pytest.raises(BucketUnavailableError, match="damaged"):
        faulty_s3.get("k")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Log in</body></html>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    ],
    ids=["nothing", "web page", "error", "cut off"],
)
def test_s3_answer_without_a_listing_is_an_error(faulty_s3, fake_server, body):
    fake_server.answer = Answer(body)

    with pytest.raises(BucketUnavailableError):
        list(faulty_s3.pages())


@pytest.mark.parametrize(
    "first",
    [
        Answer(EMPTY[:-9]),
        Answer(b"<Error><Code>InternalError</Code></Error>"),
        s3_refusal("SlowDown", 503),
    ],
    ids=["cut off", "error with status 200", "slow down"],
)
def test_s3_listing_that_fails_is_repeated(faulty_s3, fake_server, first):
    answers = iter([first, Answer(EMPTY)])
    fake_server.answer = lambda _request: next(answers)
    patient = S3Buckets(endpoint_url=fake_server.url, max_attempts=2).open("b")

    assert list(patient.pages()) == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"ETag": '"other"'}, {"ETag": '"e"', "x-amz-checksum-sha256": "AAAA"}],
    ids=["nothing", "another ETag", "another checksum"],
)
def test_s3_unconfirmed_put_is_an_error(faulty_s3, fake_server, headers):
    fake_server.answer = Answer(headers=headers)

    with pytest.raises(BucketUnavailableError, match="did not confirm"):
        faulty_s3.put("k", b"abc", "text/plain")


def test_s3_put_is_confirmed_by_its_md5_as_etag(faulty_s3, fake_server):
    fake_server.answer = Answer(headers={"ETag": '"900150983cd24fb0d6963f7d28e17f72"'})

    assert faulty_s3.put("k", b"abc", "text/plain").size == 3


@pytest.mark.parametrize(
    ("code", "status", "error", "advice"),
    [
        ("AccessDenied", 403, BucketAccessError, "Check the credentials"),
        ("AccessDenied", 403, BucketAccessError, "If the requester pays, set requester_pays"),
        ("InvalidAccessKeyId", 403, BucketAccessError, "Check the AWS credentials"),
        ("SignatureDoesNotMatch", 403, BucketAccessError, "Check the AWS credentials"),
        ("ExpiredToken", 400, BucketAccessError, "Check the AWS credentials"),
        ("RequestTimeTooSkewed", 403, BucketAccessError, "clock"),
        ("SecondLevelDomainForbidden", 403, BucketError, "Set addressing_style to virtual"),
        ("InvalidObjectState", 403, ObjectRefusedError, "Restore"),
        ("PermanentRedirect", 301, BucketError, "AWS_DEFAULT_REGION to eu-west-1"),
        ("SlowDown", 503, BucketUnavailableError, "Try again"),
        ("InternalError", 500, BucketUnavailableError, "Try again"),
        ("TooManyRequests", 429, BucketUnavailableError, "Try again"),
        ("BadDigest", 400, BucketUnavailableError, "Try again"),
        ("KeyTooLongError", 400, ObjectRefusedError, "Said so"),
        (
            "QuotaExceeded",
            403,
            BucketError,
            r"S3 at \S+ refused \(QuotaExceeded: Said so\)\. Free space",
        ),
        ("XMinioAdminBucketQuotaExceeded", 400, BucketError, "Free space"),
        ("XMinioStorageFull", 507, BucketError, "Free space"),
        ("NoSuchBucket", 404, BucketNotFoundError, "Create it"),
        ("NoSuchKey", 404, ObjectNotFoundError, "the object does not exist"),
    ],
)
def test_s3_refusal_says_what_to_do(faulty_s3, fake_server, code, status, error, advice):
    fake_server.answer = s3_refusal(code, status, x_amz_bucket_region="eu-west-1")

    with pytest.raises(error, match=f"^s3://b/.*{advice}") as caught:
        faulty_s3.get("k")

    assert caught.type is error
    assert "secret-of-ours" not in str(caught.value)


def test_s3_address_with_the_bucket_in_it_is_named(faulty_s3, fake_server):
    fake_server.answer = s3_refusal("NoSuchKey", 404)  # the bucket's name is taken for a key

    with pytest.raises(
        BucketError, match="Leave the bucket out of endpoint_url or AWS_EN"
    ) as caught:
        list(faulty_s3.pages())

    assert caught.type is BucketError


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "AccessDenied", "Access Denied because object protected by object lock."),
        (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"),
        (409, "FileImmutable", "The object you specified is immutable."),
    ],
)
def test_s3_object_that_is_locked_is_named(faulty_s3, fake_server, status, code, message):
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    fake_server.answer = Answer(body.encode(), status)
    for use in (lambda: faulty_s3.put("k", b"", "text/plain"), lambda: faulty_s3.delete("k")):
        with pytest.raises(
            BucketAccessError, match=r"S3 keeps the object as it is .*Lift its hold"
        ):
            use()


def test_s3_body_that_stops_names_the_store(faulty_s3):
    with pytest.raises(BucketUnavailableError) as caught, faulty_s3._object("k"):
        raise ReadTimeoutError(endpoint_url=None)

    assert str(caught.value).startswith(
        f"s3://b/k: S3 at {faulty_s3.client.meta.endpoint_url} does not answer "
        "(Read timeout in the middle of an answer)"
    )


def test_s3_that_is_full_is_asked_twice_at_most(faulty_s3, fake_server):
    fake_server.answer = s3_refusal("QuotaExceeded", 403)

    with pytest.raises(BucketError, match="QuotaExceeded"):
        faulty_s3.put("k", b"abc", "text/plain")

    assert len(fake_server.requests) <= 2


def test_s3_illegal_name_is_an_error(environment):
    with pytest.raises(BucketError, match=r'Invalid bucket name "a b"\. Correct it'):
        list(S3Buckets(endpoint_url="http://127.0.0.1:9").open("a b").pages())


def test_s3_bucket_that_notifies_a_queue_is_recognized(faulty_s3, fake_server):
    arn = "arn:aws:sqs:eu-west-1:123456789012:labels"
    events = "".join(f"<Event>s3:Object{name}:*</Event>" for name in ("Created", "Removed"))
    fake_server.answer = Answer(
        f"<NotificationConfiguration><QueueConfiguration><Queue>{arn}</Queue>{events}"
        "</QueueConfiguration></NotificationConfiguration>".encode()
    )

    assert faulty_s3.check_notifications(arn, "a/").state == "ok"
    assert faulty_s3.check_notifications(f"{arn}-other", "a/").state == "warning"


# -- GCS alone ----------------------------------------------------------------------------


@pytest.fixture
def faulty_gcs(environment, fake_server):
    environment.setenv("STORAGE_EMULATOR_HOST", fake_server.url)
    return GCSBuckets(project="p", retry_seconds=0.2).open("b")


@pytest.mark.server
def test_gcs_returns_the_bytes_as_stored(request):
    bucket, _ = gcs(request)
    body = gzip.compress(b"text")
    blob = bucket.client.bucket(bucket.name).blob("a")
    blob.content_encoding = "gzip"
    blob.upload_from_string(body)

    assert bucket.get("a") == body


def test_gcs_says_in_every_request_who_pays(faulty_gcs, fake_server):
    fake_server.answer = Answer(b'{"items": []}', headers={"content-type": "application/json"})
    bucket = GCSBuckets(project="payer", retry_seconds=0.2).open("b", requester_pays=True)
    list(bucket.pages())
    for use in (
        lambda: bucket.get("k", "1"),
        lambda: bucket.put("k", b"", "text/plain"),
        lambda: bucket.copy("k", "l"),
        lambda: bucket.delete("k"),
    ):
        with contextlib.suppress(BucketError, ValueError):
            use()

    assert len(fake_server.requests) > 4
    paths = [request.path for request in fake_server.requests]
    of_the_cache = "projection=noAcl"  # the client asks about the bucket for its own log
    assert {
        path for path in paths if "userProject=payer" not in path and of_the_cache not in path
    } == set()


def test_gcs_without_credentials_says_what_to_set():
    with pytest.raises(BucketAccessError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        GCSBuckets(project="p").open("b")


def test_gcs_with_a_bad_key_names_the_file_only(environment, tmp_path):
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"type": "service_account", "private_key": "secret-of-ours"}))
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))

    with pytest.raises(BucketAccessError, match=r"key\.json") as caught:
        GCSBuckets(project="p").open("b")

    assert "secret-of-ours" not in str(caught.value)


@pytest.mark.slow
def test_gcs_that_does_not_answer_is_unavailable_soon(environment):
    environment.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(BucketUnavailableError, match="does not answer"):
        list(GCSBuckets(project="p", retry_seconds=1).open("b").pages())

    assert time.monotonic() - started < 10


def test_gcs_truncated_body_is_an_error(faulty_gcs, fake_server):
    fake_server.answer = Answer(b"abc", announced=10)

    with pytest.raises(BucketUnavailableError):
        faulty_gcs.get("k")


def test_gcs_body_with_a_wrong_checksum_is_an_error(faulty_gcs, fake_server):
    fake_server.answer = Answer(b"abc", headers={"x-goog-hash": "crc32c=AAAAAA=="})

    with pytest.raises(BucketUnavailableError, match="damaged"):
        faulty_gcs.get("k")


def test_gcs_web_page_is_an_error(faulty_gcs, fake_server):
    fake_server.answer = Answer(b"<html><body>Log in</body></html>")

    with pytest.raises(BucketUnavailableError):
        list(faulty_gcs.pages())


def test_gcs_put_whose_answer_was_lost_returns_what_it_wrote(faulty_gcs, fake_server):
    item = {"name": "k", "generation": "7", "size": "3", "updated": "2026-01-02T03:04:05Z"}
    uploads = iter([gcs_refusal(503, "Lost."), gcs_refusal(412, "Changed.")])
    as_json = {"content-type": "application/json"}
    listing = Answer(json.dumps({"items": [item]}).encode(), headers=as_json)
    fake_server.answer = lambda request: (
        next(uploads)
        if request.method == "POST"
        else Answer(b"abc")
        if "alt=media" in request.path
        else listing
    )
    bucket = replace(GCSBuckets(project="p", retry_seconds=20).open("b"), emulated=False)

    assert bucket.put("k", b"abc", "text/plain", if_version="").version == "7"


def test_gcs_unconfirmed_put_is_an_error(faulty_gcs, fake_server):
    fake_server.answer = Answer(b'{"name": "k", "generation": "1"}')

    with pytest.raises(BucketUnavailableError, match="did not confirm"):
        faulty_gcs.put("k", b"abc", "text/plain")


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (403, BucketAccessError, "Check the credentials"),
        (429, BucketUnavailableError, "Try again"),
        (503, BucketUnavailableError, "Try again"),
        (400, BucketError, "Said so"),
        (404, BucketNotFoundError, "Create it"),
    ],
)
def test_gcs_refusal_says_what_to_do(faulty_gcs, fake_server, status, error, advice):
    fake_server.answer = gcs_refusal(status, "Said so.")

    with pytest.raises(error, match=f"^gs://b/.*{advice}") as caught:
        list(faulty_gcs.pages())

    assert caught.type is error
    assert "http" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "Object 'b/k' is subject to bucket's retention policy or object retention.",
        "Object 'b/k' is under active Temporary hold and cannot be deleted or overwritten.",
        "Object 'b/k' is under active Event-Based hold and cannot be deleted or overwritten.",
    ],
)
def test_gcs_object_that_is_held_is_named(faulty_gcs, fake_server, message):
    fake_server.answer = gcs_refusal(403, message)
    for use in (lambda: faulty_gcs.put("k", b"", "text/plain"), lambda: faulty_gcs.delete("k")):
        with pytest.raises(
            BucketAccessError, match=r"GCS keeps the object as it is .*Lift its hold"
        ):
            use()


@pytest.mark.parametrize(
    "message",
    [
        "Bucket is a requester pays bucket but no user project provided.",
        "User project specified in the request is invalid.",
    ],
)
def test_gcs_without_a_project_that_pays_says_what_to_set(faulty_gcs, fake_server, message):
    fake_server.answer = gcs_refusal(400, message)
    for use in (lambda: list(faulty_gcs.pages()), lambda: faulty_gcs.get("k")):
        with pytest.raises(BucketError, match="Set requester_pays, and GOOGLE_CLOUD_P") as caught:
            use()

        assert caught.type is BucketError


def test_gcs_object_whose_key_is_disabled_says_what_to_do(faulty_gcs, fake_server):
    fake_server.answer = gcs_refusal(400, "Cloud KMS CryptoKey is disabled or destroyed.")

    with pytest.raises(ObjectRefusedError, match="Repair the key, then run ls-pipeline quarantine"):
        faulty_gcs.get("k")


def test_gcs_that_is_full_says_so(faulty_gcs, fake_server):
    fake_server.answer = gcs_refusal(403, "The quota of the project is used up.")

    with pytest.raises(BucketError, match=r"GCS refused .*used up.* Free space") as caught:
        faulty_gcs.put("k", b"abc", "text/plain")

    assert caught.type is BucketError


def test_gcs_illegal_name_is_an_error(faulty_gcs):
    with pytest.raises(BucketError, match="start and end with a number or letter"):
        GCSBuckets(project="p").open("_b").get("k")


def test_gcs_bucket_that_notifies_a_topic_is_recognized(faulty_gcs, fake_server):
    topic = "projects/project/topics/labels"
    notification = {"id": "1", "topic": f"//pubsub.googleapis.com/{topic}"}
    fake_server.answer = Answer(
        json.dumps({"items": [notification]}).encode(), headers={"content-type": "application/json"}
    )

    assert faulty_gcs.check_notifications(topic, "a/").state == "ok"
    assert faulty_gcs.check_notifications(f"{topic}-other", "a/").state == "warning"
