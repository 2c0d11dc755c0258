"""Buckets over the resources of dagster-aws and dagster-gcp."""

import pytest
from dagster_aws.s3 import S3Resource
from dagster_gcp.gcs import GCSResource

from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.gcs.resource import gcs_buckets
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.bucket import S3Buckets, S3Options
from ls_pipeline.resources.s3.resource import s3_buckets
from ls_pipeline.settings.model import Source


@pytest.fixture
def team():
    return S3Resource(
        region_name="us-east-2",
        endpoint_url="http://127.0.0.1:9",
        max_attempts=3,
        aws_access_key_id="AKIATEAM",
        aws_secret_access_key="secret-of-the-team",
    )


def settings(client):
    """Return where a client sends its requests, and how often."""
    return client.meta.endpoint_url, client.meta.region_name, client.meta.config.retries


def test_bucket_is_opened_with_the_resources_client(team):
    client = s3_buckets(team).open("b").client
    same = S3Buckets("us-east-2", "http://127.0.0.1:9", max_attempts=3).open("b").client

    assert settings(client) == settings(same)
    assert client._get_credentials().access_key == "AKIATEAM"


def test_options_of_a_connection_come_before_the_resource(team):
    options = S3Options(endpoint_url="http://127.0.0.1:10", region_name="eu-west-3")
    client = s3_buckets(team).open("b", options).client

    assert settings(client)[:2] == ("http://127.0.0.1:10", "eu-west-3")
    assert client._get_credentials().access_key == "AKIATEAM"


def test_default_resource_is_what_the_command_line_uses(environment):
    environment.setenv("AWS_DEFAULT_REGION", "eu-west-3")

    assert settings(s3_buckets().open("b").client) == settings(S3Buckets().open("b").client)


def test_gcs_bucket_is_opened_with_the_resources_client(environment):
    environment.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    team, own = GCSResource(project="team"), GCSBuckets(project="own")

    assert gcs_buckets(team).open("b").client.project == "team"
    assert own.open("b").client.project == "own"


def test_queues_have_the_teams_keys(team):
    source = Source(
        type="s3", path="b", params={"notifications": "https://sqs.eu-west-3.amazonaws.com/1/q"}
    )
    queue = QueueOpener(s3_buckets(team).session).open(source)

    assert queue._client._get_credentials().access_key == "AKIATEAM"


def test_resource_of_public_buckets_signs_nothing():
    public = s3_buckets(S3Resource(use_unsigned_session=True, endpoint_url="http://127.0.0.1:9"))
    url = public.open("b").client.generate_presigned_url("head_bucket", Params={"Bucket": "b"})

    assert "Signature" not in url


def test_resource_without_ssl_uses_http():
    plain = s3_buckets(S3Resource(use_ssl=False, region_name="eu-west-3"))

    assert plain.open("b").client.meta.endpoint_url.startswith("http://s3.eu-west-3.")
