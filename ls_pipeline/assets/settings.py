"""The assets ``source_settings`` and ``target_settings``: forms in Dagster's launchpad."""

import re
import typing
from collections.abc import Callable
from typing import Any, Literal

import dagster as dg

from ls_pipeline.assets.metadata import table, text
from ls_pipeline.assets.pipeline import LEDGER, Pipeline
from ls_pipeline.assets.run import presentable
from ls_pipeline.assets.systems import Systems
from ls_pipeline.domain.errors import (
    BucketNotFoundError,
    ExternalSystemError,
    InvalidConnectionError,
    SettingsMismatchError,
    StoredSettingsError,
)
from ls_pipeline.engine.manifest import filter_of
from ls_pipeline.engine.settings_change import (
    Preview,
    SettingsChange,
    plan_change,
    preview_source,
    preview_target,
)
from ls_pipeline.resources.bucket import Bucket
from ls_pipeline.resources.ledger.lease import LONGEST_HOLD
from ls_pipeline.resources.ledger.ledger import OVERTAKEN, Ledger
from ls_pipeline.resources.ledger.records import Revision
from ls_pipeline.settings.diff import apply_form
from ls_pipeline.settings.model import Connection, Source, Target

Side = Literal["source", "target"]
PARTS: dict[str, type[Source] | type[Target]] = {"source": Source, "target": Target}

ALWAYS_SHOWN = {"prefix", "use_blob_urls"}
"""Params that a form opens with; others are there only if they are not the default."""

DROPPED_BY = ("prefix", "regex", "exclude", "manifest")
"""Params that reject keys."""

DESCRIPTION = """
{what} To change its settings, open the launchpad of the job `{job}` and select a
connection: the form shows what is set. The list next to it has all fields, with examples. A field
that you leave out keeps its value; write its default to go back to that. Set `dry_run` to see which
objects match without saving. The next tick uses the saved settings; if a value is invalid, nothing
is saved. To create a connection,
add a partition to this asset (Materialize…, Add a partition, Cancel). Then select it in the
launchpad, and fill in type, path and project.
"""


def _field(annotation: Any, description: str) -> dg.Field:
    """Return a field of a form. It has no default: a field that is left out keeps its value."""
    kind = annotation
    if typing.get_origin(annotation) is Literal:
        values = typing.get_args(annotation)
        name = re.sub(r"\W", "_", "_or_".join(value or "empty" for value in values))
        kind = dg.Enum(name, [dg.EnumValue(value) for value in values])
    elif typing.get_origin(annotation) is list:
        kind = dg.Array(*typing.get_args(annotation))
    elif typing.get_origin(annotation) is dict:
        kind = dg.Map(str, dg.Noneable(str))  # type: ignore[no-untyped-call]
    return dg.Field(kind, is_required=False, description=description)


def _form(side: Side) -> dict[str, dg.Field]:
    part = PARTS[side]
    kinds = (*typing.get_args(part.model_fields["type"].annotation), "none")
    params: Any = part.model_fields["params"].annotation
    fields = {
        name: _field(field.annotation, field.description or "")
        for name, field in params.model_fields.items()
    }
    return {
        "type": _field(Literal[kinds], f"The kind of bucket; none removes the {side}."),
        "path": _field(str, "The name of the bucket, as in my-pictures."),
        **fields,
        "project": _field(
            str,
            "The title of the Label Studio project, as in Cats; one that is absent is created.",
        ),
        "label_config": _field(
            str,
            "The label config of a project that is created, as in <View>…</View>; empty means that "
            "you set it up in Label Studio.",
        ),
        "enabled": _field(bool, "False: no sensor or run uses the connection."),
        "revision": _field(int, "The revision that the form shows. Leave it as it is."),
        "saved_by": _field(str, "Your name for the history, as in Ada."),
        "dry_run": _field(bool, "True: show what would change, and save nothing."),
    }


def _current_form(side: Side, name: str, pipeline: Pipeline) -> dict[str, Any]:
    """Return a form with the current settings that are no defaults, or for a new connection."""
    ledger = Ledger(pipeline.place.database_url)
    try:
        return _filled(side, name, _in_force(ledger, name))
    finally:
        ledger.close()


def _in_force(ledger: Ledger, name: str) -> Revision | None:
    return ledger.connection_ledger(name).settings.in_force() if name in ledger.names() else None


def _filled(side: Side, name: str, revision: Revision | None) -> dict[str, Any]:
    connection = revision.connection if revision else None
    fields = PARTS[side].model_fields
    part: Source | Target | None = getattr(connection, side) if connection else None
    absent = "none" if connection else typing.get_args(fields["type"].annotation)[0]
    params: Any = fields["params"].annotation
    defaults = params().model_dump(mode="json")
    current = part.params.model_dump(mode="json") if part else defaults
    return {
        "type": part.type if part else absent,
        "path": part.path if part else "",
        **{
            param: value
            for param, value in current.items()
            if param in ALWAYS_SHOWN or value != defaults[param]
        },
        "project": connection.project if connection else name,
        **({} if connection else {"label_config": ""}),
        **({} if connection is None or connection.enabled else {"enabled": False}),
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
    """Check the form, preview what it selects, and save it.

    Raises ``dagster.Failure`` with all errors, and saves nothing then.
    """
    form = dict(context.op_execution_context.op_config or {})
    run = f"Dagster run {context.run.run_id[:8]}"
    saved_by, dry_run = form.pop("saved_by", "") or run, form.pop("dry_run", False)
    name = context.partition_key
    try:
        change = _change(ledger, side, name, form)
        selected = preview(change.connection)
        if dry_run:
            saved = "nothing: this was a dry run"
        elif not change.changes:
            saved = "nothing: these are the current settings"
        else:
            saved = f"revision {change.save(ledger, saved_by)}, by {saved_by}"
    except (InvalidConnectionError, StoredSettingsError, BucketNotFoundError) as error:
        what = f"{error} Nothing was saved."
        raise dg.Failure(what, allow_retries=False) from presentable(error)
    return dg.MaterializeResult(metadata=_metadata(change, saved, selected))


def _change(ledger: Ledger, side: Side, name: str, form: dict[str, Any]) -> SettingsChange:
    """Return what a form changes.

    Raises ``InvalidConnectionError``, also if someone saved other settings since the form opened.
    """
    before = _in_force(ledger, name)
    current = before.number if before else 0
    form_revision = form.pop("revision", current)
    connection = apply_form(name, side, before.connection if before else None, form)
    change = plan_change(ledger, connection)
    if change.changes and {form_revision, change.base_revision} != {current}:
        raise InvalidConnectionError(name, [OVERTAKEN])
    return change


def _preview(
    side: Side, new: Connection, ledger: Ledger, open_bucket: Callable[[Source | Target], Bucket]
) -> Preview:
    part: Source | Target | None = getattr(new, side)
    if part is None:
        return Preview()
    select, preview = part.params.filter, Preview()
    if side == "target" and new.name in ledger.names():
        task_ids = ledger.connection_ledger(new.name).exports.task_ids()
        preview = preview_target(task_ids, select)
    try:
        bucket = open_bucket(part)
        if isinstance(part, Source):
            return preview_source(bucket, filter_of(bucket, part.params))
        next(bucket.pages(select.folder), None)
    except BucketNotFoundError:
        raise
    except (ExternalSystemError, SettingsMismatchError) as error:
        preview.notes.append(f"No preview: {error}" if side == "source" else str(error))
    return preview


def _metadata(
    change: SettingsChange, saved: str, preview: Preview
) -> dict[str, dg.MetadataValue[Any]]:
    count = dg.MetadataValue.int
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "saved": text(saved),
        "changed": text(*map(str, change.changes)) if change.changes else text("nothing"),
        "matching": count(preview.matching),
        **{f"dropped_by_{name}": count(preview.dropped[name]) for name in DROPPED_BY},
        "folder_markers": count(preview.dropped["folder"]),
    }
    if notes := change.notes + preview.notes:
        metadata["notes"] = text(*notes)
    if preview.first:
        metadata["first_matching"] = table([{"key": key} for key in preview.first])
    if preview.first_dropped:
        metadata["first_dropped"] = table(
            [{"key": key, "left out by": option} for key, option in preview.first_dropped]
        )
    return metadata


def _declared_metadata(pipeline: Pipeline, side: Side) -> dict[str, dg.MetadataValue[Any]]:
    """Return which connections are declared, with which settings of a side, and where."""
    if not pipeline.declarations:
        return {}
    other = "target." if side == "source" else "source."
    rows = [
        {
            "connection": name,
            "settings": ", ".join(
                setting for setting in declaration.settings() if not setting.startswith(other)
            ),
        }
        for name, declaration in pipeline.declarations.items()
    ]
    return {"declared_connections": table(rows), "declared_in": text(pipeline.declared_in)}


WHAT = {
    "source": "The bucket that tasks come from.",
    "target": "The bucket that completions go to.",
}


def settings(pipeline: Pipeline, side: Side) -> dg.AssetsDefinition:
    """Return the asset of one side."""
    job = pipeline.name(f"save_{side}_settings")

    @dg.asset(
        key=pipeline.key(f"{side}_settings"),
        partitions_def=pipeline.partitions,
        group_name=pipeline.group,
        kinds={"yaml"},
        config_schema=_form(side),
        metadata={LEDGER: text(pipeline.ledger), **_declared_metadata(pipeline, side)},
        description=DESCRIPTION.format(side=side, what=WHAT[side], job=job),
        required_resource_keys=pipeline.names("ledger", "s3", "gcs"),
    )
    def settings(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        systems = Systems(pipeline, context.resources)

        def preview(new: Connection) -> Preview:
            return _preview(side, new, systems.ledger, systems.bucket_of)

        with systems.ledger.heartbeats.of(context.run.run_id, LONGEST_HOLD):
            return _revise(context, systems.ledger, side, preview)

    return settings


def save_settings(pipeline: Pipeline, side: Side) -> Any:
    """Return the job whose launchpad shows the current settings."""
    key = pipeline.key(f"{side}_settings")

    def run_config(name: str) -> dict[str, Any]:
        form = _current_form(side, name, pipeline)
        return {"ops": {key.to_python_identifier(): {"config": form}}}

    config = dg.PartitionedConfig(pipeline.partitions, run_config_for_partition_key_fn=run_config)
    return dg.define_asset_job(
        pipeline.name(f"save_{side}_settings"),
        dg.AssetSelection.assets(key),
        config=config,
        description=f"Shows and changes a connection's {side}. Select it in the launchpad.",
    )
