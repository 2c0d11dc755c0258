"""One suite for every Bucket: in memory, on S3, on GCS."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketNotFoundError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ls_pipeline.resources.gcs import GCSBuckets
from ls_pipeline.resources.s3 import S3Buckets
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
    "k" * 1024,
]

numbers = itertools.count()


def memory(_request):
    return MemoryBucket(), MemoryBucket("absent", exists=False)


def s3(request):
    import boto3

    point_at(request, "s3_server")
    name = f"bucket-{next(numbers)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return S3Buckets().open(name), S3Buckets().open("absent")


def gcs(request):
    from google.cloud import storage

    point_at(request, "gcs_server")
    name = f"bucket-{next(numbers)}"
    storage.Client().create_bucket(name)
    return GCSBuckets().open(name), GCSBuckets().open("absent")


def point_at(request, server):
    environment = request.getfixturevalue("environment")
    for name, value in request.getfixturevalue(server).client_environment.items():
        environment.setenv(name, value)


@pytest.fixture(
    params=[
        memory,
        pytest.param(s3, marks=pytest.mark.server),
        pytest.param(gcs, marks=pytest.mark.server),
    ]
)
def buckets(request):
    return request.param(request)


@pytest.fixture
def bucket(buckets):
    return buckets[0]


@pytest.fixture
def absent(buckets):
    return buckets[1]


def put(bucket, *keys):
    for key in keys:
        bucket.put(key, key.encode(), "text/plain")


def listed(bucket, **how):
    return [one.key for page in bucket.pages(**how) for one in page]


def test_empty_bucket_lists_no_page(bucket):
    assert list(bucket.pages()) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_every_legal_key_comes_back_byte_for_byte(bucket, key):
    if bucket.scheme == "gs" and "../" in key:
        pytest.skip("the GCS emulator drops the connection at a key with ../")
    put(bucket, key)

    assert (listed(bucket), bucket.get(key)) == ([key], key.encode())


def test_listing_is_in_the_order_of_utf8_bytes(bucket):
    keys = ["é", "a", "Z", "\uffee", "\U0001f600", "a/b", "a.b"]
    put(bucket, *keys)

    assert listed(bucket) == sorted(keys, key=str.encode)


def test_listing_takes_a_prefix_and_starts_after_a_key(bucket):
    put(bucket, "a/1", "b/1", "b/2", "b/3", "c/1")

    assert listed(bucket, prefix="b/", after="b/1") == ["b/2", "b/3"]


def test_listing_goes_on_over_pages(bucket):
    keys = [f"{n:05}" for n in range(1005)]
    put(bucket, *keys)

    assert [len(page) for page in bucket.pages()] == [1000, 5]


def test_listing_tells_what_put_told(bucket):
    stored = bucket.put("a", b"12345", "text/plain")
    one = next(bucket.pages())[0]

    assert (one.key, one.version, one.size) == (stored.key, stored.version, 5)


def test_folder_markers_are_listed(bucket):
    bucket.put("folder/", b"", "text/plain")

    assert listed(bucket) == ["folder/"]


def test_overwriting_changes_the_version(bucket):
    first = bucket.put("a", b"one", "text/plain")
    second = bucket.put("a", b"two", "text/plain")

    assert first.version != second.version


def test_get_gives_the_version_that_was_listed(bucket):
    stored = bucket.put("a", b"one", "text/plain")

    assert bucket.get("a", stored.version) == b"one"


def test_get_of_a_replaced_version_says_changed(bucket):
    stored = bucket.put("a", b"one", "text/plain")
    bucket.put("a", b"two", "text/plain")

    with pytest.raises(ObjectChangedError, match="changed while it was read"):
        bucket.get("a", stored.version)


def test_get_of_an_absent_object_says_so(bucket):
    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        bucket.get("nowhere")


def test_delete_removes_an_object_and_takes_an_absent_one(bucket):
    put(bucket, "a", "b")
    bucket.delete("a")
    bucket.delete("a")

    assert listed(bucket) == ["b"]


@pytest.mark.parametrize(
    "use",
    [
        lambda bucket: list(bucket.pages()),
        lambda bucket: bucket.get("a"),
        lambda bucket: bucket.put("a", b"", "text/plain"),
        lambda bucket: bucket.delete("a"),
    ],
    ids=["pages", "get", "put", "delete"],
)
def test_missing_bucket_is_told_from_a_missing_object(absent, use):
    with pytest.raises(BucketNotFoundError, match="the bucket does not exist"):
        use(absent)


def test_s3_without_credentials_says_what_to_set():
    with pytest.raises(BucketAccessError, match="AWS_ACCESS_KEY_ID"):
        list(S3Buckets(endpoint_url="http://127.0.0.1:9").open("b").pages())


def test_s3_that_does_not_answer_is_unavailable(environment):
    environment.setenv("AWS_ACCESS_KEY_ID", "x")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "y")
    nowhere = S3Buckets(endpoint_url="http://127.0.0.1:9", max_attempts=1)

    with pytest.raises(BucketUnavailableError, match="AWS_ENDPOINT_URL"):
        list(nowhere.open("b").pages())


def test_gcs_without_credentials_says_what_to_set():
    with pytest.raises(BucketAccessError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        GCSBuckets(project="p").open("b")


def test_gcs_that_does_not_answer_is_unavailable(environment):
    environment.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")

    with pytest.raises(BucketUnavailableError, match="does not answer"):
        list(GCSBuckets(project="p", retry_seconds=1).open("b").pages())


@given(st.sets(st.text(st.characters(exclude_categories=("Cs",)), min_size=1)), st.text("ab/"))
def test_pages_join_to_the_keys_after_a_key(keys, after):
    bucket = MemoryBucket()
    put(bucket, *keys)

    assert listed(bucket, after=after) == sorted(key for key in keys if key > after)
