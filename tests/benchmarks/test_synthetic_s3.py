"""The synthetic S3 server, seen through the clients that are measured on it."""

from __future__ import annotations

import json

import pytest

from benchmarks.contender import ENVIRONMENT
from benchmarks.synthetic_s3 import NEW, OLD, NumberedKeys, synthetic_s3
from ls_pipeline.domain.errors import ObjectNotFoundError
from ls_pipeline.domain.listing_ranges import RangeBoundary
from ls_pipeline.resources.s3.bucket import S3Buckets
from tests.contracts.test_bucket import HOSTILE

pytestmark = pytest.mark.server

COUNT = 3500
KEYS = sorted([*NumberedKeys(COUNT), *HOSTILE], key=str.encode)


@pytest.fixture(scope="module")
def url():
    with synthetic_s3(COUNT, extra=HOSTILE) as url:
        yield url


@pytest.fixture
def bucket(environment, url):
    for name, value in ENVIRONMENT.items():
        environment.setenv(name, value)
    return S3Buckets(endpoint_url=url).open("b")


def listed(bucket, *arguments):
    return [stored.key for page in bucket.pages(*arguments) for stored in page]


def test_every_key_is_listed_in_order(bucket):
    boundaries = [RangeBoundary(key) for key in HOSTILE[:1] + KEYS[998::999]]
    in_ranges = [
        stored.key
        for listing_range in bucket.ranges(range_boundaries=boundaries)
        for stored in listing_range.objects
    ]

    assert listed(bucket) == KEYS
    assert in_ranges == KEYS


@pytest.mark.parametrize("prefix", ["objects/00000123", "a", "//", "none"])
def test_prefix_limits_the_listing(bucket, prefix):
    assert listed(bucket, prefix) == [key for key in KEYS if key.startswith(prefix)]


def test_listing_starts_after_a_key(bucket):
    assert listed(bucket, "objects/", KEYS[2000]) == [
        key for key in KEYS[2001:] if key.startswith("objects/")
    ]


def test_botocore_lists_the_same(bucket, url):
    import boto3

    pages = boto3.client("s3", endpoint_url=url).get_paginator("list_objects_v2")
    rows = [row for page in pages.paginate(Bucket="b") for row in page["Contents"]]
    ours = [stored for page in bucket.pages() for stored in page]

    assert [
        (row["Key"], row["ETag"].strip('"'), row["Size"], row["LastModified"]) for row in rows
    ] == ours


def test_only_extra_objects_are_new(bucket):
    objects = [stored for page in bucket.pages() for stored in page]
    new = {stored.key for stored in objects if stored.modified.month == 2}

    assert (new, OLD < NEW) == (set(HOSTILE), True)


def test_object_is_a_task_of_its_listed_size(bucket):
    for stored in next(bucket.pages()):
        if stored.key in HOSTILE:
            body = bucket.get(stored.key, stored.version)
            assert (json.loads(body), len(body)) == ({"text": stored.key}, stored.size)


def test_absent_object_is_not_found(bucket):
    with pytest.raises(ObjectNotFoundError):
        bucket.get("objects/nowhere")
