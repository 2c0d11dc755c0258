"""What an operator sets up for a connection: permissions, and the bucket's notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Policy, Setup
from ls_pipeline.domain import permissions
from ls_pipeline.domain.notification_setup import gcs_setup_command, s3_setup_commands
from ls_pipeline.domain.objects import folder
from ls_pipeline.resources.s3.sqs import arn_of
from ls_pipeline.settings.model import Source
from ls_pipeline.settings.params import TargetParams

if TYPE_CHECKING:
    from ls_pipeline.settings.model import Connection, Target


def policies(connection: Connection, region: str = "") -> list[Policy]:
    """Return the minimum permissions of a connection. ``region`` is the default region."""
    sides = [side for side in (connection.source, connection.target) if side]
    uses_by_role: dict[str, list[permissions.BucketUse]] = {}
    for side in sides:
        if side.cloud == "s3":
            uses_by_role.setdefault(side.params.role_arn, []).append(_use(side, region))
    needed = []
    for role, uses in uses_by_role.items():
        needed.append(Policy(role or "the pipeline's AWS credentials", permissions.s3_policy(uses)))
        if role:
            needed.append(Policy("principals that assume the role", permissions.role_policy(role)))
    commands = [
        command
        for side in sides
        if side.cloud == "gcs"
        for command in permissions.gcs_commands(_use(side, region))
    ]
    if commands:
        needed.append(Policy("the pipeline's Google account", commands=commands))
    return needed + _label_studio_policies(connection.source, region)


def _label_studio_policies(source: Source | None, region: str) -> list[Policy]:
    """Return what Label Studio's server needs so that annotators can open objects."""
    if source is None or not source.params.use_blob_urls:
        return []
    use = _use(source, region)
    if source.cloud == "s3":
        return [Policy("Label Studio's AWS credentials", permissions.label_studio_policy(use))]
    commands = permissions.gcs_label_studio_commands(use)
    return [Policy("Label Studio's Google account", commands=commands)]


def _use(side: Source | Target, region: str) -> permissions.BucketUse:
    params = side.params
    return permissions.BucketUse(
        side.path,
        folder(params.prefix),
        isinstance(params, TargetParams),
        permissions.aws_partition(params.region_name or region, params.role_arn),
        params.kms_key_id if isinstance(params, TargetParams) else "",
        isinstance(params, TargetParams) and (params.delete or bool(params.folders)),
        _queue(side, region) if isinstance(side, Source) else "",
    )


def _queue(source: Source, region: str) -> str:
    """Return a source's queue as policies name it: on AWS by its ARN."""
    queue = source.params.notifications
    if not queue or source.cloud == "gcs":
        return queue
    return arn_of(queue, source.params.region_name or region)


def setups(connection: Connection, region: str = "") -> list[Setup]:
    """Return the commands that make a source's bucket send notifications to its queue."""
    source = connection.source
    if source is None or not source.params.notifications:
        return []
    queue, prefix = source.params.notifications, source.params.filter.folder
    if source.cloud == "gcs":
        commands = [gcs_setup_command(source.path, prefix, queue)]
        return [Setup("the bucket sends notifications", commands)]
    commands = s3_setup_commands(source.path, prefix, queue, _queue(source, region))
    purpose = "the bucket sends notifications (both commands replace earlier configurations)"
    return [Setup(purpose, commands)]
