"""What an operator sets up for a connection: permissions, and notifications of its bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Policy, Setup
from ls_pipeline.domain import permissions
from ls_pipeline.domain.notification_setup import gcs_setup_command, s3_setup_commands
from ls_pipeline.domain.objects import folder
from ls_pipeline.resources.s3.sqs import arn_of
from ls_pipeline.settings.model import Source, TargetParams

if TYPE_CHECKING:
    from ls_pipeline.settings.model import Connection, Target


def policies(connection: Connection, region: str = "") -> list[Policy]:
    """Give the smallest permissions for a connection; ``region`` is where none is named."""
    parts = [part for part in (connection.source, connection.target) if part]
    roles: dict[str, list[permissions.BucketUse]] = {}
    for part in parts:
        if part.cloud == "s3":
            roles.setdefault(part.params.role_arn, []).append(_use(part, region))
    found = []
    for role, uses in roles.items():
        found.append(Policy(role or "the pipeline's AWS credentials", permissions.s3_policy(uses)))
        if role:
            found.append(Policy("those who take on the role", permissions.role_policy(role)))
    commands = [
        line
        for part in parts
        if part.cloud == "gcs"
        for line in permissions.gcs_commands(_use(part, region))
    ]
    if commands:
        found.append(Policy("the pipeline's Google account", commands=commands))
    return found + _opening(connection.source, region)


def _opening(source: Source | None, region: str) -> list[Policy]:
    """Give what Label Studio's server needs, so that annotators see blobs."""
    if source is None or not source.params.use_blob_urls:
        return []
    use = _use(source, region)
    if source.cloud == "s3":
        return [Policy("Label Studio's own AWS credentials", permissions.label_studio_policy(use))]
    return [
        Policy("Label Studio's Google account", commands=permissions.gcs_label_studio_commands(use))
    ]


def _use(part: Source | Target, region: str) -> permissions.BucketUse:
    params = part.params
    return permissions.BucketUse(
        part.path,
        folder(params.prefix),
        isinstance(params, TargetParams),
        permissions.aws_partition(params.region_name or region, params.role_arn),
        params.kms_key_id if isinstance(params, TargetParams) else "",
        isinstance(params, TargetParams) and params.delete,
        _queue_name(part, region) if isinstance(part, Source) else "",
    )


def _queue_name(source: Source, region: str) -> str:
    """Name a source's queue as policies do."""
    queue = source.params.notifications
    return queue_arn(source, region) if queue and source.cloud == "s3" else queue


def setups(connection: Connection, region: str = "") -> list[Setup]:
    """Give what is set up once, so that a source's bucket tells the queue that it names."""
    source = connection.source
    if source is None or not source.params.notifications:
        return []
    queue, where = source.params.notifications, source.params.filter.folder
    if source.cloud == "gcs":
        return [Setup("the bucket tells", [gcs_setup_command(source.path, where, queue)])]
    commands = s3_setup_commands(source.path, where, queue, queue_arn(source, region))
    return [Setup("the bucket tells; both commands replace what was set before", commands)]


def queue_arn(source: Source, region: str = "") -> str:
    """Return the ARN of the SQS queue that an S3 source names."""
    return arn_of(source.params.notifications, source.params.region_name or region)
