"""S3 in Dagster: buckets with the settings of dagster-aws's ``S3Resource``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.resources.s3.bucket import Keys, S3Buckets

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource


def s3_buckets(s3: S3Resource | None = None) -> S3Buckets:
    """Return the buckets that a resource reaches; by default, the environment's.

    The region, the endpoint and the role of a connection take precedence over the resource's. The
    resource's profile or keys assume the role.
    """
    if s3 is None:
        return S3Buckets()
    keys = None
    if s3.aws_access_key_id and s3.aws_secret_access_key:
        keys = Keys(s3.aws_access_key_id, s3.aws_secret_access_key, s3.aws_session_token)
    return S3Buckets(
        region_name=s3.region_name or "",
        endpoint_url=s3.endpoint_url or "",
        profile_name=s3.profile_name or "",
        max_attempts=s3.max_attempts,
        keys=keys,
        is_signed=not s3.use_unsigned_session,
        use_ssl=s3.use_ssl,
        verify=s3.verify is not False,
    )
