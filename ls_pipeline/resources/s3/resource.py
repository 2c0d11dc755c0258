"""S3 in Dagster: buckets over the client of dagster-aws's ``S3Resource``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.s3.bucket import S3Buckets

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource


def s3_buckets(resource: S3Resource | None = None) -> S3Buckets:
    """Return the buckets that a resource reaches; by default, the environment's.

    The region and the endpoint of a connection take precedence over the resource's. A connection
    with a role gets a client of its own: the resource takes a profile or fixed keys, and a role's
    keys expire within the hour.
    """
    from dagster_aws.s3 import S3Resource  # two seconds

    s3 = resource or S3Resource()

    def new_client(region: str, endpoint: str) -> Any:
        given = {"region_name": region, "endpoint_url": endpoint}
        return s3.model_copy(update={key: given[key] for key in given if given[key]}).get_client()

    return S3Buckets(
        region_name=s3.region_name or "",
        endpoint_url=s3.endpoint_url or "",
        profile_name=s3.profile_name or "",
        max_attempts=s3.max_attempts,
        new_client=new_client,
    )
