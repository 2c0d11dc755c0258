"""S3 in Dagster: buckets over a client with the settings of dagster-aws's ``S3Resource``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.s3.credentials import reading_credentials

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource


def s3_buckets(resource: S3Resource | None = None) -> S3Buckets:
    """Return the buckets that a resource reaches; by default, the environment's.

    The region and the endpoint of a connection take precedence over the resource's. A connection
    with a role gets a client of its own: the resource takes a profile or fixed keys, and a role's
    keys expire within the hour.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from dagster_aws.s3 import S3Resource  # two seconds

    s3 = resource or S3Resource()

    def new_client(region: str, endpoint: str, config: Any) -> Any:
        session = boto3.session.Session(profile_name=s3.profile_name)
        if s3.use_unsigned_session:
            config = config.merge(Config(signature_version=UNSIGNED))
        if not (s3.aws_access_key_id or s3.use_unsigned_session):
            with reading_credentials():
                session.get_credentials()
        return session.client(
            "s3",
            region_name=region or s3.region_name,
            endpoint_url=endpoint or s3.endpoint_url,
            use_ssl=s3.use_ssl,
            verify=s3.verify,
            aws_access_key_id=s3.aws_access_key_id,
            aws_secret_access_key=s3.aws_secret_access_key,
            aws_session_token=s3.aws_session_token,
            config=config,
        )

    return S3Buckets(
        region_name=s3.region_name or "",
        endpoint_url=s3.endpoint_url or "",
        profile_name=s3.profile_name or "",
        max_attempts=s3.max_attempts,
        new_client=new_client,
    )
