"""What a botocore session loads of its data."""

import pytest

from ls_pipeline.resources.s3.botocore_data import SERVICES, load_less
from ls_pipeline.resources.s3.bucket import S3Buckets


@pytest.fixture(scope="module")
def session():
    return S3Buckets().session()


@pytest.fixture(scope="module")
def plain():
    from botocore.session import Session

    return Session()


def test_endpoints_are_those_of_our_services(session):
    partitions = session.get_component("data_loader").load_data("endpoints")["partitions"]

    assert set(partitions[0]["services"]) == SERVICES
    assert all(set(partition["services"]) <= SERVICES for partition in partitions)


@pytest.mark.parametrize(
    ("service", "region"),
    [
        ("s3", "eu-central-1"),
        ("s3", "cn-north-1"),
        ("sqs", "us-gov-west-1"),
        ("sts", "cn-north-1"),
        ("sns", "eu-central-1"),
    ],
)
def test_clients_have_the_endpoints_that_botocore_gives_them(session, plain, service, region):
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    own, other = (
        each.create_client(service, region_name=region, **keys) for each in (session, plain)
    )

    assert own.meta.endpoint_url == other.meta.endpoint_url
    assert own.meta.partition == other.meta.partition


def test_model_has_all_operations_and_no_documentation(session, plain):
    own, other = (each.get_service_model("s3") for each in (session, plain))
    members = [each.operation_model("PutObject").input_shape.members for each in (own, other)]

    assert own.operation_names == other.operation_names
    assert members[0].keys() == members[1].keys()
    assert own.operation_model("PutObject").documentation == ""


def test_loading_less_twice_is_fine():
    session = S3Buckets().session()
    load_less(session)

    assert session.create_client("sts", region_name="eu-central-1").meta.region_name
