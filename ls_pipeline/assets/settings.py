"""The assets ``source_settings`` and ``target_settings``: forms in Dagster's launchpad."""

import typing
from collections.abc import Callable
from typing import Any, Literal

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.assets.run import bucket_of
from ls_pipeline.domain.errors import (
    BucketNotFoundError,
    ExternalSystemError,
    InvalidConnectionError,
)
from ls_pipeline.engine.settings_change import (
    Preview,
    SettingsChange,
    plan_change,
    preview_source,
    preview_target,
)
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.ledger.ledger import OVERTAKEN, Ledger
from ls_pipeline.resources.ledger.records import Revision
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.settings.diff import apply_form
from ls_pipeline.settings.model import Connection, Source, Target

Side = Literal["source", "target"]
PARTS: dict[str, type[Source] | type[Target]] = {"source": Source, "target": Target}

DESCRIPTION = """
{what} Change them in the launchpad of the job `save_{side}_settings`: pick a connection, and the
form opens with the values in force. The next tick uses what is saved. What is refused, or left
out of the form, stays as it was. To make a new connection, add a partition here (Materialize…,
Add a partition, Cancel); then pick it there, and fill in type, path and project.
"""


def _field(annotation: Any, description: str) -> dg.Field:
    """Make a field of a form. It has no default: what is left out stays as it is."""
    kind = annotation
    if typing.get_origin(annotation) is Literal:
        values = typing.get_args(annotation)
        kind = dg.Enum("_or_".join(values).replace("-", "_"), [dg.EnumValue(one) for one in values])
    elif typing.get_origin(annotation) is list:
        kind = dg.Array(*typing.get_args(annotation))
    return dg.Field(kind, is_required=False, description=description)


def _form(side: Side) -> dict[str, dg.Field]:
    part = PARTS[side]
    kinds = (*typing.get_args(part.model_fields["type"].annotation), "none")
    params: Any = part.model_fields["params"].annotation
    of_params = {
        name: _field(field.annotation, field.description or "")
        for name, field in params.model_fields.items()
    }
    return {
        "type": _field(Literal[kinds], f"The cloud; none takes the {side} away."),
        "path": _field(str, "The bucket's name."),
        **of_params,
        "project": _field(str, "The Label Studio project's title; made if absent."),
        "label_config": _field(str, "What a new project is made with: XML."),
        "enabled": _field(bool, "False: no sensor and no pass works on the connection."),
        "revision": _field(int, "That of the values the form opened with: leave it as it is."),
        "saved_by": _field(str, "Your name, for the history."),
        "dry_run": _field(bool, "True: show what would change, and store nothing."),
    }


def _in_force(side: Side, name: str) -> dict[str, Any]:
    """Fill a form with the settings in force, of a new connection with the defaults."""
    ledger = Ledger(database_url())
    try:
        revision = ledger.account(name).revision() if name in ledger.names() else None
        return _filled(side, name, revision)
    finally:
        ledger.engine.dispose()


def _filled(side: Side, name: str, revision: Revision | None) -> dict[str, Any]:
    connection = revision.connection if revision else None
    fields = PARTS[side].model_fields
    part: Source | Target | None = getattr(connection, side) if connection else None
    absent = "none" if connection else typing.get_args(fields["type"].annotation)[0]
    defaults: Any = fields["params"].annotation
    return {
        "type": part.type if part else absent,
        "path": part.path if part else "",
        **(part.params if part else defaults()).model_dump(mode="json"),
        "project": connection.project if connection else name,
        "label_config": connection.label_config if connection else "",
        "enabled": connection.enabled if connection else True,
        "revision": revision.number if revision else 0,
        "saved_by": "",
        "dry_run": False,
    }


def _revise(
    context: dg.AssetExecutionContext,
    ledger: Ledger,
    side: Side,
    preview: Callable[[Connection], Preview],
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Check the form, look at what it selects, and store it.

    Raises ``dagster.Failure`` with every error, and stores nothing then.
    """
    form = dict(context.op_execution_context.op_config or {})
    run = f"Dagster run {context.run.run_id[:8]}"
    saved_by, dry_run = form.pop("saved_by", "") or run, form.pop("dry_run", False)
    name = context.partition_key
    try:
        change = _change(ledger, side, name, form)
        found = preview(change.connection)
        if dry_run:
            saved = "nothing: this was a dry run"
        elif not change.changes:
            saved = "nothing: these settings were in force already"
        else:
            saved = f"revision {change.save(ledger, saved_by)}, by {saved_by}"
    except (InvalidConnectionError, BucketNotFoundError) as error:
        raise dg.Failure(f"{error} The old settings stay.", allow_retries=False) from error
    return dg.MaterializeResult(metadata=_metadata(change, saved, found))


def _change(ledger: Ledger, side: Side, name: str, form: dict[str, Any]) -> SettingsChange:
    """Tell what a form changes. Raises ``InvalidConnectionError``, also when it was overtaken."""
    before = ledger.account(name).revision() if name in ledger.names() else None
    onto = before.number if before else 0
    filled_from = form.pop("revision", onto)
    change = plan_change(
        ledger, apply_form(name, side, before.connection if before else None, form)
    )
    if change.changes and {filled_from, change.base_revision} != {onto}:
        raise InvalidConnectionError(name, [OVERTAKEN])
    return change


def _of_source(source: Source | None, s3: S3Buckets, gcs: GCSBuckets) -> Preview:
    if source is None:
        return Preview()
    try:
        return preview_source(bucket_of(source, s3, gcs), source.params.filter)
    except BucketNotFoundError:
        raise
    except ExternalSystemError as error:
        return Preview(notes=[f"There is no preview: {error}"])


def _of_target(
    target: Target | None, task_ids: list[int], s3: S3Buckets, gcs: GCSBuckets
) -> Preview:
    if target is None:
        return Preview()
    found = preview_target(task_ids, target.params.filter)
    try:
        next(bucket_of(target, s3, gcs).pages(target.params.filter.folder), None)
    except BucketNotFoundError:
        raise
    except ExternalSystemError as error:
        found.notes.append(str(error))
    return found


def _metadata(
    change: SettingsChange, saved: str, found: Preview
) -> dict[str, dg.MetadataValue[Any]]:
    text, count = dg.MetadataValue.text, dg.MetadataValue.int
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "saved": text(saved),
        "changed": text("\n".join(map(str, change.changes)) or "nothing"),
        "matching": count(found.matching),
        **{f"dropped_by_{name}": count(found.dropped[name]) for name in ("prefix", "regex")},
        "folder_markers": count(found.dropped["folder"]),
    }
    if notes := change.notes + found.notes:
        metadata["notes"] = text("\n".join(notes))
    if found.first:
        keys = [dg.TableRecord({"key": key}) for key in found.first]
        metadata["first_matching"] = dg.MetadataValue.table(keys)
    if found.first_dropped:
        rows = [
            dg.TableRecord({"key": key, "left out by": why}) for key, why in found.first_dropped
        ]
        metadata["first_dropped"] = dg.MetadataValue.table(rows)
    return metadata


@dg.asset(
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"yaml"},
    config_schema=_form("source"),
    description=DESCRIPTION.format(side="source", what="Where a connection's tasks come from."),
)
def source_settings(
    context: dg.AssetExecutionContext,
    ledger: dg.ResourceParam[Ledger],
    s3: S3Buckets,
    gcs: GCSBuckets,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Store the form, and show what the filter selects."""
    return _revise(context, ledger, "source", lambda one: _of_source(one.source, s3, gcs))


@dg.asset(
    partitions_def=CONNECTIONS,
    group_name="labeling",
    kinds={"yaml"},
    config_schema=_form("target"),
    description=DESCRIPTION.format(side="target", what="Where a connection's completions go."),
)
def target_settings(
    context: dg.AssetExecutionContext,
    ledger: dg.ResourceParam[Ledger],
    s3: S3Buckets,
    gcs: GCSBuckets,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Store the form, and show which completions it selects."""
    name = context.partition_key
    task_ids = ledger.account(name).exported_ids() if name in ledger.names() else []
    return _revise(context, ledger, "target", lambda one: _of_target(one.target, task_ids, s3, gcs))


def save_settings(side: Side, asset: dg.AssetsDefinition) -> Any:
    """Make the job whose launchpad opens with the settings in force."""

    def run_config(name: str) -> dict[str, Any]:
        return {"ops": {f"{side}_settings": {"config": _in_force(side, name)}}}

    config = dg.PartitionedConfig(CONNECTIONS, run_config_for_partition_key_fn=run_config)
    return dg.define_asset_job(
        f"save_{side}_settings",
        [asset],
        config=config,
        description=f"Shows and changes a connection's {side}: pick it in the launchpad.",
    )
