"""The ``training_data`` asset: snapshots of all annotations, as Parquet tables."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ls_pipeline.assets import checks
from ls_pipeline.assets.metadata import (
    balance_metadata,
    folder_link,
    label_chart,
    mirror_metadata,
    table,
    text,
    timings_metadata,
)
from ls_pipeline.assets.partitions import pending_connections
from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.assets.run import connection_run, nothing_to_do
from ls_pipeline.assets.systems import Systems
from ls_pipeline.domain.converters.lost import Report
from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.snapshot.folders import Folder, dataset_folder
from ls_pipeline.domain.snapshot.manifest import snapshot_folder
from ls_pipeline.domain.snapshot.tables import COLUMNS, TABLES
from ls_pipeline.engine.convert import Conversion, convert_snapshot
from ls_pipeline.engine.detect import wants_snapshot
from ls_pipeline.engine.folder import write_folders
from ls_pipeline.engine.image_downloads import ImageDownloads
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.engine.snapshot import SnapshotResult, write_snapshot
from ls_pipeline.engine.target_files import find_missing_files
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.model import Connection

DESCRIPTION = """
All completions in the target as three Parquet tables (`tasks`, `annotations`, `results`), in a
folder that never changes: `<prefix>/training_data/snapshots/<name>/`. The columns never depend on
the labels. `<prefix>/training_data/latest.json` names the newest snapshot that is complete and has
passed its checks. A new one is made if completions changed, by the target's `snapshot_minutes` or
`snapshot_cron`.
"""


class CompletionsChanged(dg.AutomationCondition[dg.AssetKey]):
    """Holds for connections whose completions changed since their snapshot, once one is due."""

    def __init__(self, pipeline: Pipeline, poll_seconds: int) -> None:
        self._pipeline, self._poll_seconds = pipeline, poll_seconds

    @property
    def description(self) -> str:
        return "completions changed since the last snapshot, and the target's settings say now"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        ledger = Ledger(self._pipeline.place.database_url)
        try:
            now = ledger.now()
            due = {status.name for status in ledger.statuses() if wants_snapshot(status, now)}
            ledger.ticks.record("training_data", self._poll_seconds)
        finally:
            ledger.close()
        # Not Dagster's own `in_progress`: it calls a run started whose machine is gone.
        due -= pending_connections(context.asset_graph_view.instance, self._pipeline)
        known = context.candidate_subset.expensively_compute_partition_keys()
        subset = context.asset_graph_view.get_subset_from_partition_keys(
            context.key, self._pipeline.partitions, due & set(known)
        )
        return dg.AutomationResult(context, true_subset=subset)


def training_data(pipeline: Pipeline, poll_seconds: int) -> dg.AssetsDefinition:
    """Return the asset, whose condition is evaluated at some interval."""

    @dg.asset(
        key=pipeline.key("training_data"),
        partitions_def=pipeline.partitions,
        deps=[pipeline.key("completions")],
        group_name=pipeline.group,
        kinds={"parquet"},
        description=DESCRIPTION,
        check_specs=pipeline.checks(checks.TRAINING_DATA_CHECKS),
        automation_condition=CompletionsChanged(pipeline, poll_seconds),
        required_resource_keys=pipeline.names("ledger", "s3", "gcs", "label_studio", "progress"),
        pool=pipeline.pool,
    )
    def training_data(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:  # type: ignore[type-arg]
        yield from _materialize(context, pipeline)

    return training_data


def _materialize(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:  # type: ignore[type-arg]
    """Make a snapshot of the completions in the target, when any changed."""
    systems = Systems(pipeline, context.resources)
    with connection_run(context, systems.ledger, "training_data", pipeline) as held:
        revision = held.settings.in_force()
        connection, target = revision.connection, revision.connection.target
        if target is None or not connection.enabled:
            yield from checks.passed_snapshot_checks(held.name)
            version = _version(held.exports.snapshot_state().snapshot_uri)
            yield nothing_to_do(connection, "target")._replace(data_version=version)
            return
        run = systems.run(held, revision, target)
        mark_mirror_stale(run, target)
        with run.timings.timing("snapshot"):
            written = write_snapshot(run)
        with run.timings.timing("checking_target"):
            missing = find_missing_files(run)
        yield from checks.snapshot_checks(held.name, written, target.params, missing)
        if written.failed:
            failures = " ".join(written.failed.values())
            raise SnapshotError(f"The snapshot was not published: {failures}")
        snapshots = Snapshots(run.bucket, target.params.prefix)
        with run.timings.timing("converting"):
            formats = convert_snapshot(
                run.bucket,
                snapshots,
                written.newest,
                target.params.formats,
                target.params.formats_annotations,
                _downloads(connection, systems).fetch,
            )
        with run.timings.timing("folders"):
            folders = write_folders(run, snapshots, written.newest)
        yield from checks.folder_checks(held.name, folders)
        for name, folder in folders.items():
            formats[f"{name} folder"] = _conversion(snapshots, folder)
        yield checks.formats_complete(held.name, formats, strict=target.params.formats_strict)
        copied = update_mirror(run, target)
        metadata = {**_metadata(written, snapshots), **timings_metadata(run.timings)}
        place = snapshot_folder(target.params.prefix, written.newest.snapshot)
        metadata["folder"] = folder_link(target, place)
        if formats:
            outcomes = [_format_row(name, each) for name, each in formats.items()]
            metadata["formats"] = table(outcomes)
        copies = mirror_metadata(run, target, copied)
        version = dg.DataVersion(written.newest.snapshot)
        yield dg.MaterializeResult(metadata={**metadata, **copies}, data_version=version)


def _version(snapshot_uri: str) -> dg.DataVersion:
    """Return the data version of a run that makes no snapshot: that of the last one."""
    return dg.DataVersion(snapshot_uri.rstrip("/").rpartition("/")[2] or "none")


def _conversion(snapshots: Snapshots, folder: Folder | str) -> Conversion:
    """Return what became of a folder, or why there is none, as of another format."""
    if isinstance(folder, str):
        return Conversion(folder)
    key = dataset_folder(snapshots.prefix, folder.snapshot, folder.format)
    pictures = ", ".join(f"{split}: {count}" for split, count in folder.pictures.items())
    outcome = f"{snapshots.bucket.uri(key)} ({pictures or 'no pictures'})"
    return Conversion(outcome, Report.from_dict(folder.report))


def _downloads(connection: Connection, systems: Systems) -> ImageDownloads:
    """Return what reads the objects that tasks name, in the connection's buckets."""
    return ImageDownloads(systems.bucket_of, connection.media_sides, lambda _done: None)


def _format_row(name: str, conversion: Conversion) -> dict[str, str]:
    report = conversion.report or Report()
    counts = {"lost": str(report.lost), "simplified": str(report.simplified)}
    return {"format": name, "outcome": conversion.outcome, **counts}


def _metadata(
    written: SnapshotResult, snapshots: Snapshots
) -> dict[str, dg.MetadataValue[Any] | dg.TableSchema]:
    manifest = written.newest
    tally, uri = manifest.tally, snapshots.uri(manifest.snapshot)
    metadata: dict[str, dg.MetadataValue[Any] | dg.TableSchema] = {
        "labels": label_chart(tally),
        **balance_metadata(tally),
        "snapshot": text(manifest.snapshot),
        "dagster/uri": text(uri),
        "dagster/row_count": dg.MetadataValue.int(manifest.rows["results"]),
        "dagster/column_schema": _column_schema("results"),
        **{f"{name}_columns": _schema_value(name) for name in TABLES if name != "results"},
        **{f"{name}_rows": dg.MetadataValue.int(manifest.rows[name]) for name in TABLES},
        "bytes": dg.MetadataValue.int(manifest.bytes),
        "new": dg.MetadataValue.int(manifest.changes.new if written.is_new else 0),
        "changed": dg.MetadataValue.int(manifest.changes.changed if written.is_new else 0),
        "removed": dg.MetadataValue.int(manifest.changes.removed if written.is_new else 0),
        "moved": dg.MetadataValue.int(manifest.changes.moved if written.is_new else 0),
        "skipped": dg.MetadataValue.int(tally.skipped),
        "files_written": dg.MetadataValue.int(written.written),
        "files_copied": dg.MetadataValue.int(written.copied),
    }
    if manifest.group_by:
        metadata["group_by"] = text(manifest.group_by)
    if tally.compared:
        metadata["agreement"] = dg.MetadataValue.float(tally.agreement / tally.compared)
        metadata["tasks_compared"] = dg.MetadataValue.int(tally.compared)
    if written.removed:
        metadata["snapshots_removed"] = text(", ".join(written.removed))
    if written.not_removed:
        metadata["not_removed"] = table([{"why": why} for why in written.not_removed.values()])
    if not written.is_new:
        metadata["note"] = text("Up to date: no completion changed.")
    return metadata


def _schema_value(table: str) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.table_schema(_column_schema(table))


def _column_schema(table: str) -> dg.TableSchema:
    columns = []
    for name, (kind, what) in COLUMNS[table].items():
        plain = kind.removesuffix(" not null")
        constraints = dg.TableColumnConstraints(nullable=plain == kind)
        columns.append(dg.TableColumn(name, plain, what, constraints))
    return dg.TableSchema(columns)
