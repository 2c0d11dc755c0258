"""The forms of what settings name in a cloud: endpoints, roles, buckets and queues."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

QUEUES = {
    "s3": (
        re.compile(r"https?://[^/@\s?#]+/[^@\s?#]*[^@\s?#/]"),
        "an SQS queue's URL, as in https://sqs.eu-west-1.amazonaws.com/123456789012/labels",
    ),
    "gcs": (
        re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+"),
        "a Pub/Sub subscription, as in projects/my-project/subscriptions/labels",
    ),
}
"""Cloud → the form of a queue's name, and the form in words."""

_ACCESS_POINT = re.compile(
    r"(arn:aws[a-z-]*:s3:[a-z0-9-]+:[0-9]{12}:accesspoint)[:/]([a-z0-9][a-z0-9-]{1,48}[a-z0-9])"
)


def is_url(url: str) -> bool:
    """Return whether a text is the URL of a server, without a login and a query."""
    try:
        parsed = urlsplit(url)
        has_host = bool(parsed.hostname) and parsed.port != 0
    except ValueError:
        return False
    return has_host and bool(re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", url))


def endpoint_url(url: str) -> str:
    """Return a store's URL. Raises ``ValueError`` if it is another text, or has a query."""
    if not is_url(url):
        raise ValueError(
            "endpoint_url must be a URL without credentials and a query, as in https://s3.example.com"
        )
    return url


def role_arn(arn: str) -> str:
    """Return a role's ARN. Raises ``ValueError`` for anything else."""
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+", arn):
        raise ValueError(
            f"role_arn {arn!r} is not a role, as in arn:aws:iam::123456789012:role/labels"
        )
    return arn


def bucket_name(path: str) -> str:
    """Return the name of a bucket, or the ARN of an access point in the form without a slash.

    Raises ``ValueError`` for anything else.
    """
    if access_point := _ACCESS_POINT.fullmatch(path):
        return ":".join(access_point.groups())
    if bucket := re.fullmatch(r"arn:aws[a-z-]*:s3:::([^/]+)", path):
        raise ValueError(f"path {path!r} is a bucket's ARN; write its name, {bucket[1]!r}")
    if path.startswith("arn:"):
        raise ValueError(
            f"path {path!r} is not an access point, as in "
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/labels; for other kinds, write the "
            "alias that AWS shows, as in labels-abc123-s3alias"
        )
    if not path or "/" in path:
        raise ValueError(
            f"path {path!r} is not a bucket's name, as in my-bucket; a folder goes into the "
            "prefix param"
        )
    return path


def access_point_region(bucket: str) -> str:
    """Return the region of an access point's ARN; empty for a bucket's name."""
    return bucket.split(":")[3] if _ACCESS_POINT.fullmatch(bucket) else ""


def media_bucket(bucket: str, cloud: str) -> tuple[str, str]:
    """Return the cloud and the name of a bucket that is written as a URI, or as a name.

    ``cloud`` is that of a name. Raises ``ValueError`` for anything else.
    """
    match = re.fullmatch(r"(?:(s3|gs)://)?([^\s/:]+)/?", bucket)
    if not match:
        raise ValueError(
            f"media bucket {bucket!r} is not a bucket, as in my-pictures or gs://my-pictures"
        )
    return {"s3": "s3", "gs": "gcs"}.get(match[1], cloud), match[2]
