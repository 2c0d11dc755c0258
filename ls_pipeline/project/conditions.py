"""Conditions for a team's own assets: a new snapshot, or enough new labels."""

from __future__ import annotations

import dagster as dg

from ls_pipeline.assets.pipeline import Pipeline

SNAPSHOTS_AT_MOST = 1000
"""Materializations of one partition that are added up."""


def training_data_dep(prefix: str, connection: str = "") -> dg.AssetDep:
    """Return the dependency on a pipeline's training data.

    Of one ``connection``, for an asset without partitions. Else of the same partition, for an
    asset with the partitions of the pipeline: `connection_partitions`.
    """
    mapping = dg.SpecificPartitionsPartitionMapping([connection]) if connection else None
    return dg.AssetDep(Pipeline(prefix).key("training_data"), partition_mapping=mapping)


def connection_partitions(prefix: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a pipeline's assets: one for each connection."""
    return Pipeline(prefix).partitions


def new_snapshot(prefix: str) -> dg.AutomationCondition[dg.AssetKey]:
    """Return a condition that holds once for each new snapshot that the asset depends on.

    It consists of Dagster's own conditions, so every automation sensor evaluates it.
    """
    own = dg.AssetSelection.assets(Pipeline(prefix).key("training_data"))
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(condition.data_version_changed()).allow(own)
    return (
        changed.with_label("new snapshot").since_last_handled()
        & ~condition.any_deps_match(condition.missing()).allow(own)
        & ~condition.in_progress()
    )


def new_labels(
    prefix: str, at_least: int, connection: str = ""
) -> dg.AutomationCondition[dg.AssetKey]:
    """Return a condition that holds once that many tasks were labeled or relabeled.

    They count in the snapshots made since the asset was last materialized: of ``connection``, or of
    the partition's own. Only a sensor with ``use_user_code_server`` evaluates it, as
    `ls_pipeline.automation_sensor` does.
    """
    enough = NewLabels(prefix, at_least, connection)
    return enough & ~dg.AutomationCondition.in_progress()


class NewLabels(dg.AutomationCondition[dg.AssetKey]):
    """Holds for partitions with enough new labels since their last materialization."""

    def __init__(self, prefix: str, at_least: int, connection: str = "") -> None:
        self._training_data = Pipeline(prefix).key("training_data")
        self._at_least, self._connection = at_least, connection

    @property
    def description(self) -> str:
        return f"at least {self._at_least} labels since the last materialization"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        instance, candidates = context.asset_graph_view.instance, context.candidate_subset
        if context.partitions_def is None:
            is_due = self._is_due(instance, context.key, None)
            true = candidates if is_due else context.get_empty_subset()
        else:
            partitions = candidates.expensively_compute_partition_keys()
            due = {name for name in partitions if self._is_due(instance, context.key, name)}
            true = context.asset_graph_view.get_subset_from_partition_keys(
                context.key, context.partitions_def, due
            )
        return dg.AutomationResult(context, true_subset=true)

    def _is_due(
        self, instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None
    ) -> bool:
        own = [partition] if partition else None
        wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=own)
        last = instance.fetch_materializations(wanted, limit=1).records
        connection = self._connection or partition
        snapshots = dg.AssetRecordsFilter(
            asset_key=self._training_data,
            asset_partitions=[connection] if connection else None,
            after_storage_id=last[0].storage_id if last else None,
        )
        records = instance.fetch_materializations(snapshots, limit=SNAPSHOTS_AT_MOST).records
        return sum(map(_new_labels, records)) >= self._at_least


def _new_labels(record: dg.EventLogRecord) -> int:
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    counts = (metadata.get(name) for name in ("new", "changed"))
    return sum(
        count.value
        for count in counts
        if isinstance(count, dg.IntMetadataValue) and count.value is not None
    )
