"""The made-up bucket, seen with the clients that are measured on it."""

from __future__ import annotations

import json

import pytest

from benchmarks.contender import ENVIRONMENT, list_server
from benchmarks.synthetic_s3 import NEW, OLD, Numbered
from ls_pipeline.domain.errors import ObjectNotFoundError
from ls_pipeline.domain.listing_ranges import RangeBoundary
from ls_pipeline.resources.s3.bucket import S3Buckets
from tests.contracts.test_bucket import HOSTILE

pytestmark = pytest.mark.server

COUNT = 3500
KEYS = sorted([*Numbered(COUNT), *HOSTILE], key=str.encode)


@pytest.fixture(scope="module")
def url():
    with list_server(COUNT, extra=HOSTILE) as url:
        yield url


@pytest.fixture
def bucket(environment, url):
    for name, value in ENVIRONMENT.items():
        environment.setenv(name, value)
    return S3Buckets(endpoint_url=url).open("b")


def listed(bucket, *asked):
    return [one.key for page in bucket.pages(*asked) for one in page]


def test_every_key_is_listed_in_order(bucket):
    cut = [RangeBoundary(key) for key in HOSTILE[:1] + KEYS[998::999]]
    in_ranges = [
        one.key
        for listing_range in bucket.ranges(range_boundaries=cut)
        for one in listing_range.objects
    ]

    assert listed(bucket) == KEYS
    assert in_ranges == KEYS


@pytest.mark.parametrize("prefix", ["objects/00000123", "a", "//", "none"])
def test_prefix_is_listed_alone(bucket, prefix):
    assert listed(bucket, prefix) == [key for key in KEYS if key.startswith(prefix)]


def test_listing_goes_on_after_a_key(bucket):
    assert listed(bucket, "objects/", KEYS[2000]) == [
        key for key in KEYS[2001:] if key.startswith("objects/")
    ]


def test_botocore_reads_the_same(bucket, url):
    import boto3

    pages = boto3.client("s3", endpoint_url=url).get_paginator("list_objects_v2")
    found = [one for page in pages.paginate(Bucket="b") for one in page["Contents"]]
    ours = [one for page in bucket.pages() for one in page]

    assert [
        (one["Key"], one["ETag"].strip('"'), one["Size"], one["LastModified"]) for one in found
    ] == ours


def test_only_what_is_extra_is_new(bucket):
    new = {one.key for page in bucket.pages() for one in page if one.modified.month == 2}

    assert (new, OLD < NEW) == (set(HOSTILE), True)


def test_object_is_a_task_of_the_size_that_is_listed(bucket):
    for one in next(bucket.pages()):
        if one.key in HOSTILE:
            body = bucket.get(one.key, one.version)
            assert (json.loads(body), len(body)) == ({"text": one.key}, one.size)


def test_absent_object_is_told(bucket):
    with pytest.raises(ObjectNotFoundError):
        bucket.get("objects/nowhere")
