"""The minimal permissions that a connection needs, as each cloud writes them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMBER = "serviceAccount:NAME@PROJECT.iam.gserviceaccount.com"
"""The member in commands, for a person to replace."""


@dataclass(frozen=True, slots=True)
class BucketUse:
    """How a connection uses one bucket: it lists and reads ``folder``, and may write to it.

    ``bucket`` may be the ARN of an access point. ``partition`` is the first part of the region's
    ARNs: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    ``queue`` receives the bucket's notifications: an SQS queue's ARN, or a subscription.
    """

    bucket: str
    folder: str
    writes: bool = False
    partition: str = "aws"
    kms_key_id: str = ""
    deletes: bool = False
    queue: str = ""


def aws_partition(region: str, role_arn: str = "") -> str:
    """Return the AWS partition of a role, or else of a region."""
    if role_arn:
        return role_arn.split(":")[1]
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return partition
    return "aws"


def s3_policy(uses: Sequence[BucketUse]) -> dict[str, Any]:
    """Return the IAM policy for these uses of S3 buckets."""
    return _policy([statement for use in uses for statement in _statements(use)])


def role_policy(role_arn: str) -> dict[str, Any]:
    """Return the IAM policy that allows to assume a role."""
    return _policy([_allow(["sts:AssumeRole"], role_arn)])


def label_studio_policy(use: BucketUse) -> dict[str, Any]:
    """Return the IAM policy of Label Studio's server, which signs the URLs of objects.

    It has no condition on the prefix, because Label Studio first calls HeadBucket.
    """
    bucket = _bucket(use)
    return _policy([_allow(["s3:ListBucket"], bucket), _allow(["s3:GetObject"], _objects(use))])


def gcs_commands(use: BucketUse) -> list[str]:
    """Return the gcloud commands that grant the roles for this use of a GCS bucket.

    Writing needs ``objectUser``, because replacing an object deletes the old one. Listing is a
    permission on the bucket, which no condition on object names can grant. So a folder also needs
    a role that lists the names of all objects, and reads none.
    """
    role = "roles/storage.objectUser" if use.writes else "roles/storage.objectViewer"
    return _bucket_commands(use, role) + ([_subscription_command(use)] if use.queue else [])


def gcs_label_studio_commands(use: BucketUse) -> list[str]:
    """Return the commands for Label Studio's account, which opens the objects of a GCS bucket.

    It also requests the bucket itself each time, which a role on objects does not allow.
    """
    commands = _bucket_commands(use, "roles/storage.objectViewer")
    reader = _binding(use.bucket, "roles/storage.legacyBucketReader")
    return commands if reader in commands else [*commands, reader]


def _subscription_command(use: BucketUse) -> str:
    words = ["gcloud", "pubsub", "subscriptions", "add-iam-policy-binding", use.queue]
    return shlex.join([*words, f"--member={MEMBER}", "--role=roles/pubsub.subscriber"])


def _bucket_commands(use: BucketUse, role: str) -> list[str]:
    if not use.folder:
        return [_binding(use.bucket, role)]
    folder = json.dumps(f"projects/_/buckets/{use.bucket}/objects/{use.folder}")
    condition = f"title=ls_pipeline,expression=resource.name.startsWith({folder})"
    return [
        _binding(use.bucket, role, condition),
        _binding(use.bucket, "roles/storage.legacyBucketReader"),
    ]


def _binding(bucket: str, role: str, condition: str = "") -> str:
    words = ["gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket}"]
    words += [f"--member={MEMBER}", f"--role={role}"]
    # If the bucket has conditional roles, gcloud requires the flag, even for no condition.
    return shlex.join([*words, f"--condition={condition or None}"])


def _statements(use: BucketUse) -> list[dict[str, Any]]:
    listing = _allow(["s3:ListBucket"], _bucket(use))
    if use.folder:
        listing["Condition"] = {"StringLike": {"s3:prefix": f"{_literal(use.folder)}*"}}
    actions = ["s3:GetObject", *(["s3:PutObject"] if use.writes else [])]
    actions += ["s3:DeleteObject"] if use.deletes else []
    key = [_key_statement(use)] if use.kms_key_id else []
    queue = [_allow(["sqs:ReceiveMessage", "sqs:DeleteMessage"], use.queue)] if use.queue else []
    return [listing, _allow(actions, _objects(use)), *key, *queue]


def _key_statement(use: BucketUse) -> dict[str, Any]:
    """Return the statement for a KMS key, which is an ARN, an alias or an id."""
    head, _, name = use.kms_key_id.rpartition(":")
    head = head or f"arn:{use.partition}:kms:*:*"
    actions = ["kms:GenerateDataKey", "kms:Decrypt"]
    if not name.startswith("alias/"):
        return _allow(actions, f"{head}:key/{name.removeprefix('key/')}")
    # A policy's resources are key ARNs only; an alias needs a condition.
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
    return {**_allow(actions, f"{head}:key/*"), "Condition": condition}


def _policy(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _bucket(use: BucketUse) -> str:
    """Return the ARN of a bucket, or that of an access point as policies write it."""
    if _is_access_point(use):
        head, _, name = use.bucket.rpartition(":")
        return f"{head}/{name}"
    return f"arn:{use.partition}:s3:::{use.bucket}"


def _is_access_point(use: BucketUse) -> bool:
    return use.bucket.startswith("arn:")


def _objects(use: BucketUse) -> str:
    folder = "/object" if _is_access_point(use) else ""
    return f"{_bucket(use)}{folder}/{_literal(use.folder)}*"


def _literal(text: str) -> str:
    """Escape the characters that have a meaning in a policy."""
    return re.sub(r"[$*?]", lambda match: f"${{{match[0]}}}", text)
