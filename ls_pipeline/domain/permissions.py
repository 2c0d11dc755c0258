"""The smallest permissions that a connection works with, in the words of each cloud."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMBER = "serviceAccount:NAME@PROJECT.iam.gserviceaccount.com"
"""Whom a command gives a role: for a person to fill in."""


@dataclass(frozen=True, slots=True)
class BucketUse:
    """What is done with one bucket: objects below ``folder`` are listed, read, or also written.

    ``partition`` is the first part of all ARNs there: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    ``queue`` is where the bucket's notifications wait: an SQS queue's ARN, or a subscription.
    """

    bucket: str
    folder: str
    writes: bool = False
    partition: str = "aws"
    kms_key_id: str = ""
    deletes: bool = False
    queue: str = ""


def aws_partition(region: str, role_arn: str = "") -> str:
    """Give the partition of a region, or of a role where one is known."""
    if role_arn:
        return role_arn.split(":")[1]
    for begin, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(begin):
            return name
    return "aws"


def s3_policy(uses: Sequence[BucketUse]) -> dict[str, Any]:
    """Give the IAM policy for these uses of S3 buckets, as JSON."""
    return _policy([one for use in uses for one in _statements(use)])


def role_policy(role_arn: str) -> dict[str, Any]:
    """Give the IAM policy of those who take on a role."""
    return _policy([_allow(["sts:AssumeRole"], role_arn)])


def label_studio_policy(use: BucketUse) -> dict[str, Any]:
    """Give the IAM policy of Label Studio's server, which signs the URLs of a bucket's objects.

    It first asks whether the bucket is there (HeadBucket): a condition would forbid that.
    """
    bucket = _bucket(use)
    return _policy([_allow(["s3:ListBucket"], bucket), _allow(["s3:GetObject"], _objects(use))])


def gcs_commands(use: BucketUse) -> list[str]:
    """Give the gcloud commands that give the roles for this use of a GCS bucket.

    Writing takes ``objectUser``: to replace an object is to delete the old one. Listing is a
    right on the bucket, which a condition on the names of objects never meets; so beside a
    folder's role stands one that tells the names of all objects, and the content of none.
    """
    role = "roles/storage.objectUser" if use.writes else "roles/storage.objectViewer"
    return _bucket_commands(use, role) + ([_subscription_command(use)] if use.queue else [])


def gcs_label_studio_commands(use: BucketUse) -> list[str]:
    """Give the commands for Label Studio's account, which opens the objects of a GCS bucket.

    It asks for the bucket itself each time, which those who may read objects may not.
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
    below = json.dumps(f"projects/_/buckets/{use.bucket}/objects/{use.folder}")
    condition = f"title=ls_pipeline,expression=resource.name.startsWith({below})"
    return [
        _binding(use.bucket, role, condition),
        _binding(use.bucket, "roles/storage.legacyBucketReader"),
    ]


def _binding(bucket: str, role: str, condition: str = "") -> str:
    words = ["gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket}"]
    words += [f"--member={MEMBER}", f"--role={role}"]
    # Where the bucket has a conditional role, one without has to say so.
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
    """Allow the use of a key that is given as an ARN, an alias, or an id."""
    head, _, name = use.kms_key_id.rpartition(":")
    head = head or f"arn:{use.partition}:kms:*:*"
    actions = ["kms:GenerateDataKey", "kms:Decrypt"]
    if not name.startswith("alias/"):
        return _allow(actions, f"{head}:key/{name.removeprefix('key/')}")
    # A policy knows keys by their ARN alone; of an alias, by a condition.
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
    return {**_allow(actions, f"{head}:key/*"), "Condition": condition}


def _policy(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _bucket(use: BucketUse) -> str:
    return f"arn:{use.partition}:s3:::{use.bucket}"


def _objects(use: BucketUse) -> str:
    return f"{_bucket(use)}/{_literal(use.folder)}*"


def _literal(text: str) -> str:
    """Write characters that a policy gives a meaning as themselves."""
    return re.sub(r"[$*?]", lambda found: f"${{{found[0]}}}", text)
