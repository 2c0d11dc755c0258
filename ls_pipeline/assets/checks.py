"""What a pass must be able to say of itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from ls_pipeline.assets.external import labels
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.snapshot.manifest import Tally
from ls_pipeline.engine.load import Loading
from ls_pipeline.engine.snapshot import Snapshotting
from ls_pipeline.resources.ledger.connection import Account
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.status import Standing
from ls_pipeline.settings.model import TargetParams

BALANCE = dg.AssetCheckSpec(
    "accounts_balance",
    asset="tasks",
    description="Every object that the bucket listed is accounted for: loaded, filtered, in "
    "quarantine, or pending.",
)
QUARANTINE = dg.AssetCheckSpec(
    "nothing_quarantined",
    asset="tasks",
    description="Every object and row that was read became a task.",
)
TASK_CHECKS = [BALANCE, QUARANTINE]


def accounts_balance(account: Account, folder: str, done: Loading) -> dg.AssetCheckResult:
    """Compare what the pass was told by the bucket with what the ledger says afterwards."""
    states = account.count_objects(folder)
    parts = {
        "loaded": states[State.LOADED],
        "filtered": done.filtered,
        "quarantined": states[State.QUARANTINED],
        "pending": done.pending + states[State.BEGUN],
    }
    off = done.listed - sum(parts.values())
    said = "Every listed object is accounted for."
    if off:
        said = (
            f"The ledger has {abs(off)} too {'few' if off > 0 else 'many'} objects; the next pass "
            "looks again. If this stays, report it."
        )
    return dg.AssetCheckResult(
        check_name=BALANCE.name,
        passed=off == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{account.name}: {said}",  # Dagster shows no partition of a check
        metadata={"listed": done.listed, **parts},
    )


def nothing_quarantined(account: Account) -> dg.AssetCheckResult:
    """Warn of objects and rows that are in quarantine, with the first one's reason."""
    count = account.count_quarantined()
    said = "Nothing is in quarantine."
    for first in account.quarantined(limit=1):
        said = (
            f"{count} in quarantine; the first is {first.key!r}: {first.reason} Upload it anew, or "
            f"see ls-pipeline quarantine list {account.name}."
        )
    return dg.AssetCheckResult(
        check_name=QUARANTINE.name,
        passed=count == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{account.name}: {said}",
        metadata={"quarantined": count},
    )


def passed_task_checks(connection: str) -> list[dg.AssetCheckResult]:
    """Pass all, because nothing was listed."""
    said = f"{connection}: nothing was listed."
    return [
        dg.AssetCheckResult(check_name=spec.name, passed=True, description=said)
        for spec in TASK_CHECKS
    ]


ANNOTATIONS_COUNTED = dg.AssetCheckSpec(
    "annotations_counted",
    asset="completions",
    description="Label Studio counts the annotations of the tasks that were touched lately. Where "
    "it doesn't, they are exported all the same, and it hands out labeled tasks again.",
)


def annotations_counted(connection: str, uncounted: Sequence[int]) -> dg.AssetCheckResult:
    """Warn of tasks that have annotations of which Label Studio knows nothing."""
    said = "Label Studio counts what was labeled lately."
    if uncounted:
        said = (
            f"Label Studio counts no annotation of {len(uncounted)} tasks that have some, the "
            f"first is task {uncounted[0]}: they are exported, and handed out to be labeled "
            "again. Restart it, then run `label-studio calculate_stats_all_orgs --from-scratch`."
        )
    return dg.AssetCheckResult(
        check_name=ANNOTATIONS_COUNTED.name,
        passed=not uncounted,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{connection}: {said}",
        metadata={"miscounted": len(uncounted)},
    )


LABELS_KEEP_COMING = dg.AssetCheckKey(labels.key, "labels_keep_coming")


@dg.asset_check(
    asset=labels.key,
    name=LABELS_KEEP_COMING.name,
    description="Where tasks wait to be labeled, somebody has labeled one within the target's "
    "labels_within_days. The sensor `completions` sees to it.",
)
def labels_keep_coming(ledger: dg.ResourceParam[Ledger]) -> dg.AssetCheckResult:
    """Tell whether the tasks of all connections are being labeled."""
    return dg.AssetCheckResult(**labels_check_fields(stalled_connections(ledger)))


def stalled_connections(ledger: Ledger) -> dict[str, str]:
    """Say of each connection where labels don't keep coming since when they don't."""
    return {one.name: said for one in ledger.standings() if (said := _late(one))}


def labels_check_fields(late: Mapping[str, str]) -> dict[str, Any]:
    """Give the fields of the check's result."""
    return {
        "passed": not late,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": " ".join(late.values()) or "Labels come wherever tasks wait for them.",
        "metadata": {"connections_without_labels": len(late)},
    }


def _late(standing: Standing) -> str:
    """Say since when no label came though tasks wait; empty where all is well.

    An export passes when something was labeled; before the first one, the time since the
    connection was made counts.
    """
    account, connection = standing.account, standing.connection
    if connection.target is None or not connection.enabled:
        return ""
    since = standing.health("completions").passed_at or standing.made_at
    days = int((account.ledger.clock() - since) / DAY)
    if days < connection.target.params.labels_within_days:
        return ""
    waiting = account.count_tasks() - account.count_exported()[0]
    if waiting <= 0:
        return ""
    return f"{account.name}: {waiting} tasks wait for a label, and none came for {days} days."


DAY = 86_400.0
"""Seconds."""

_BLOCKING = {
    "rows_as_exported": "The snapshot has exactly the tasks and annotations that the ledger says "
    "are exported, and no task that Label Studio lacks.",
    "no_orphans": "Every result has its annotation, every annotation its task.",
    "no_duplicates": "No task, annotation or result is there twice.",
    "schema_as_declared": "Every file has the declared schema.",
    "no_split_leak": "Every row is in the split that its object belongs to, so that no object is "
    "in two.",
}
_WARNING = {
    "no_class_vanished": "Every label that the snapshot before had is still given.",
    "few_skipped": "Annotators skipped no more than the target's skipped_at_most.",
    "target_complete": "Every completion that was written to the target is still there.",
    "annotators_agree": "Where several people labeled a task, they agree at least as much as the "
    "target's agreement_at_least.",
}
TRAINING_DATA_CHECKS = [
    dg.AssetCheckSpec(
        name,
        asset="training_data",
        description=what,
        blocking=name in _BLOCKING,
    )
    for name, what in {**_BLOCKING, **_WARNING}.items()
]
"""The first five keep a snapshot from being published; the others warn."""


def passed_snapshot_checks(connection: str) -> Iterator[dg.AssetCheckResult]:
    """Pass all, because there is nothing to check."""
    for name in (*_BLOCKING, *_WARNING):
        said = f"{connection}: nothing to check."
        yield dg.AssetCheckResult(check_name=name, passed=True, description=said)


def snapshot_checks(
    connection: str, done: Snapshotting, params: TargetParams, lost: Sequence[str] = ()
) -> Iterator[dg.AssetCheckResult]:
    """Tell how a connection's snapshot fared; ``lost`` are files that are gone from the target."""
    for name in _BLOCKING:
        fault = done.failed.get(name, "")
        counted = done.counts if name == "rows_as_exported" else {}
        yield dg.AssetCheckResult(
            check_name=name,
            passed=not fault,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{connection}: {fault or _well(done)}",
            metadata=counted,
        )
    tally = done.manifest.tally if done.manifest else Tally()
    before = done.before.tally if done.before else Tally()
    skipped, agreement = _share_skipped(tally), _agreement(tally)
    warnings: dict[str, tuple[str, dict[str, float]]] = {
        "no_class_vanished": (_vanished(tally, before) if done.manifest else "", {}),
        "target_complete": (_lost(lost), {"lost": len(lost)}),
        "few_skipped": (_skipped(tally, params.skipped_at_most), {"skipped": skipped}),
        "annotators_agree": (
            _disagreement(tally, params.agreement_at_least),
            {} if agreement is None else {"agreement": agreement},
        ),
    }
    for name, (warning, figures) in warnings.items():
        yield dg.AssetCheckResult(
            check_name=name,
            passed=not warning,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{connection}: {warning or _well(done)}",
            metadata=figures,
        )


def _well(done: Snapshotting) -> str:
    if done.failed:
        return "Nothing was published, because another check failed."
    return "As it should be." if done.is_new else "No completion changed since it was checked."


def _vanished(tally: Tally, before: Tally) -> str:
    gone = [
        f"{label} ({control})"
        for control, labels in before.labels.items()
        for label in labels
        if label not in tally.labels.get(control, {})
    ]
    return f"No result has these labels any more: {', '.join(gone)}." if gone else ""


def _lost(files: Sequence[str]) -> str:
    if not files:
        return ""
    return (
        f"{len(files)} files of completions are gone from the target, the first is {files[0]}; the "
        "next export writes them again."
    )


def _share_skipped(tally: Tally) -> float:
    whole = tally.annotations + tally.skipped
    return tally.skipped / whole if whole else 0.0


def _agreement(tally: Tally) -> float | None:
    return tally.agreement / tally.compared if tally.compared else None


def _skipped(tally: Tally, at_most: float) -> str:
    share = _share_skipped(tally)
    return f"Annotators skipped {share:.0%} of what they saw." if share > at_most else ""


def _disagreement(tally: Tally, at_least: float) -> str:
    agreement = _agreement(tally)
    if agreement is None or agreement >= at_least:
        return ""
    return (
        f"Of the {tally.compared} tasks with several annotations, annotators agree in "
        f"{agreement:.0%} of what they gave."
    )
