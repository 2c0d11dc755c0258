"""The asset checks, and their results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from ls_pipeline.assets.metadata import table, verbatim
from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.assets.systems import Systems
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.snapshot.folders import Folder
from ls_pipeline.domain.snapshot.manifest import Leaks, Tally
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.engine.convert import Conversion
from ls_pipeline.engine.load_result import LoadResult
from ls_pipeline.engine.snapshot import SnapshotResult
from ls_pipeline.resources.ledger.connection import ConnectionLedger
from ls_pipeline.resources.ledger.health import at_time
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.status import ConnectionStatus, failing_since, failures_of
from ls_pipeline.settings.params import TargetParams

BALANCE = dg.AssetCheckSpec(
    "accounts_balance",
    asset="tasks",
    description="Every object that the bucket listed is loaded, filtered, in quarantine, or "
    "pending.",
)
QUARANTINE = dg.AssetCheckSpec(
    "nothing_quarantined",
    asset="tasks",
    description="Every object and row that was read became a task.",
)
TASK_CHECKS = [BALANCE, QUARANTINE]


def _result(
    check: str, connection: str, problem: str, otherwise: str, **metadata: Any
) -> dg.AssetCheckResult:
    """Return the result of a check that passes if there is no problem, and warns if there is.

    Dagster shows ``problem`` as Markdown.
    """
    severity = dg.AssetCheckSeverity.ERROR if check in ERRORS else dg.AssetCheckSeverity.WARN
    text = f"{connection}: {problem or otherwise}"  # lists of checks show no partition
    return dg.AssetCheckResult(
        check_name=check, passed=not problem, severity=severity, description=text, metadata=metadata
    )


def accounts_balance(
    connection_ledger: ConnectionLedger, folder: str, result: LoadResult
) -> dg.AssetCheckResult:
    """Compare the number of objects that the bucket listed with the ledger after the run."""
    states = connection_ledger.objects.count(folder)
    parts = {
        "loaded": states[State.LOADED],
        "filtered": result.filtered,
        "quarantined": states[State.QUARANTINED],
        "pending": result.pending + states[State.BEGUN],
    }
    off, problem = result.listed - sum(parts.values()), ""
    if off:
        problem = (
            f"The ledger has {abs(off)} too {'few' if off > 0 else 'many'} objects. The next run "
            "compares again; if the check fails again, report it."
        )
    otherwise = "Every listed object is accounted for."
    name = connection_ledger.name
    return _result(BALANCE.name, name, problem, otherwise, listed=result.listed, **parts)


def nothing_quarantined(connection_ledger: ConnectionLedger) -> dg.AssetCheckResult:
    """Warn if objects or rows are in quarantine, with the reason of the first."""
    name, objects = connection_ledger.name, connection_ledger.objects
    count, problem = objects.count_quarantined(), ""
    for first in objects.quarantined(limit=1):
        problem = (
            f"{count} in quarantine, the first is {verbatim(first.key)}: {verbatim(first.reason)} "
            f"Upload a corrected version, or run `ls-pipeline quarantine list {name}`."
        )
    return _result(QUARANTINE.name, name, problem, "Nothing is in quarantine.", quarantined=count)


def passed_task_checks(connection: str) -> list[dg.AssetCheckResult]:
    """Return a passed result for each check of ``tasks``, of a run that listed nothing."""
    return [_result(spec.name, connection, "", "Nothing was listed.") for spec in TASK_CHECKS]


ANNOTATIONS_COUNTED = dg.AssetCheckSpec(
    "annotations_counted",
    asset="completions",
    description="Label Studio counts the annotations of recently changed tasks. If it does not, "
    "they are exported anyway, but annotators get labeled tasks again.",
)


def annotations_counted(connection: str, uncounted: Sequence[int]) -> dg.AssetCheckResult:
    """Warn of tasks whose annotations Label Studio does not count."""
    problem = ""
    if uncounted:
        problem = (
            f"Label Studio counts no annotation of {len(uncounted)} annotated tasks, the first is "
            f"task {uncounted[0]}. They are exported, but annotators get them again. Restart Label "
            "Studio, then run `label-studio calculate_stats_all_orgs --from-scratch`."
        )
    otherwise = "Label Studio counts the annotations of recently changed tasks."
    check = ANNOTATIONS_COUNTED.name
    return _result(check, connection, problem, otherwise, miscounted=len(uncounted))


CONNECTIONS_HEALTHY = dg.AssetCheckKey(dg.AssetKey("source_bucket"), "connections_healthy")


def connections_healthy(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """Return the check that no connection is failing."""
    return _check_of_ledger(
        pipeline,
        CONNECTIONS_HEALTHY,
        "No enabled connection is failing: the last run succeeded, and sensors can see its source "
        "and Label Studio. The sensor `notifications` updates this check.",
        lambda ledger: health_check_fields(failing_connections(ledger)),
    )


def _check_of_ledger(
    pipeline: Pipeline,
    key: dg.AssetCheckKey,
    description: str,
    fields_of: Callable[[Ledger], dict[str, Any]],
) -> dg.AssetChecksDefinition:
    """Return a check of what the ledger knows of all connections."""

    @dg.asset_check(
        asset=pipeline.check(key).asset_key,
        name=key.name,
        description=description,
        required_resource_keys=pipeline.names("ledger"),
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(**fields_of(Systems(pipeline, context.resources).ledger))

    return check


def failing_connections(ledger: Ledger) -> list[dict[str, str]]:
    """Return a row for each failure of an enabled connection: its reason, and since when."""
    failing = (status for status in ledger.statuses() if status.settings.enabled)
    return [
        {
            "connection": status.name,
            "what": what,
            "reason": reason,
            "since": at_time(since, status.read_at)
            if (since := failing_since(status).get(what))
            else "",
        }
        for status in failing
        for what, reason in failures_of(status).items()
    ]


def health_check_fields(failures: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return the fields of the result of ``connections_healthy``.

    One result is about all connections. With partitions, Dagster's storage would refuse a second
    result that comes from a sensor: its index of results takes each partition once for each run.
    """
    sentences = [f"{each['connection']}: {verbatim(each['reason'])}" for each in failures]
    more = len(sentences) - FAILURES_AT_MOST
    if more > 0:
        sentences[FAILURES_AT_MOST:] = [f"And {more} more."]
    failing = len({each["connection"] for each in failures})
    metadata = {"failures": table(failures[:100])} if failures else {}
    return {
        "passed": not failures,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": "\n\n".join(sentences) or "No connection is failing.",
        "metadata": {"connections_failing": failing, **metadata},
    }


FAILURES_AT_MOST = 20
"""Failures in a check's description; its table has up to 100."""

LABELS_KEEP_COMING = dg.AssetCheckKey(dg.AssetKey("labels"), "labels_keep_coming")


def labels_keep_coming(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """Return the check that the tasks of all connections are being labeled."""
    return _check_of_ledger(
        pipeline,
        LABELS_KEEP_COMING,
        "If tasks are waiting, one was labeled within the target's labels_within_days. The sensor "
        "`completions` updates this check.",
        lambda ledger: labels_check_fields(stalled_connections(ledger)),
    )


def stalled_connections(ledger: Ledger) -> dict[str, str]:
    """Return a sentence for each connection whose tasks wait too long for labels."""
    return {status.name: message for status in ledger.statuses() if (message := _stalled(status))}


def labels_check_fields(stalled: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the result of ``labels_keep_coming``."""
    return {
        "passed": not stalled,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": " ".join(stalled.values()) or "No tasks have waited too long for labels.",
        "metadata": {"connections_without_labels": len(stalled)},
    }


def _stalled(status: ConnectionStatus) -> str:
    """Return for how long tasks have waited; empty if that is not too long.

    The time counts from the last export, because labels start an export. Before the first export,
    it counts from the creation of the connection.
    """
    if status.refusal:
        return ""
    connection_ledger, connection = status.ledger, status.connection
    if connection.target is None or not connection.enabled:
        return ""
    since = status.health("completions").passed_at or status.made_at
    days = int((connection_ledger.now() - since) / DAY)
    if days < connection.target.params.labels_within_days:
        return ""
    waiting = connection_ledger.objects.count_tasks() - connection_ledger.exports.count()[0]
    if waiting <= 0:
        return ""
    name = connection_ledger.name
    return f"{name}: {waiting} tasks are waiting, and nothing was labeled for {days} days."


DAY = 86_400.0
"""Seconds."""

_BLOCKING = {
    "rows_as_exported": "The snapshot has exactly the tasks and annotations that the ledger lists "
    "as exported, and Label Studio has all of these tasks.",
    "no_orphans": "Every result has its annotation, and every annotation its task.",
    "no_duplicates": "No task, annotation or result occurs twice.",
    "schema_as_declared": "Every file has the declared schema.",
    "no_split_leak": "Every row is in the split of its group, or without group_by of its object, "
    "so none of them is in two splits.",
}
_WARNING = {
    "no_content_leak": "No two tasks that show the same are in different splits.",
    "no_class_vanished": "Every label in the previous snapshot is still in use.",
    "few_skipped": "Annotators skipped at most the target's skipped_at_most.",
    "target_complete": "Every completion that was written to the target is still there.",
    "annotators_agree": "People who labeled the same task agree at least as much as the target's "
    "agreement_at_least.",
}
_OF_FOLDERS = {
    "media_complete": "Every picture that tasks show is in the target's folders.",
    "no_media_leak": "No two pictures with the same bytes are in different splits of a folder.",
}
ERRORS = {BALANCE.name, *_BLOCKING}
"""The checks whose failure is an error; the others warn."""

FORMATS_COMPLETE = "formats_complete"
_FORMATS = {
    FORMATS_COMPLETE: "The target's formats hold every result. If formats_strict is true, it is an "
    "error if they don't."
}

TRAINING_DATA_CHECKS = [
    dg.AssetCheckSpec(name, asset="training_data", description=what, blocking=name in _BLOCKING)
    for name, what in {**_BLOCKING, **_WARNING, **_OF_FOLDERS, **_FORMATS}.items()
]
"""If one of the first five fails, the snapshot is not published; the others warn."""


def passed_snapshot_checks(connection: str) -> Iterator[dg.AssetCheckResult]:
    """Yield a passed result for each check of ``training_data``, of a run without a snapshot."""
    for name in (*_BLOCKING, *_WARNING, *_OF_FOLDERS, *_FORMATS):
        yield _result(name, connection, "", "There was nothing to check.")


def formats_complete(
    connection: str, conversions: Mapping[str, Conversion], *, strict: bool
) -> dg.AssetCheckResult:
    """Return whether other formats hold every result; an error if they don't and must."""
    reports = {name: each.report for name, each in conversions.items() if each.report}
    sentences = {name: report.sentence for name, report in reports.items() if report.sentence}
    problem = " ".join(f"{name}: {verbatim(text)}" for name, text in sentences.items())
    counts = {"lost": sum(report.lost for report in reports.values())}
    counts["simplified"] = sum(report.simplified for report in reports.values())
    result = _result(FORMATS_COMPLETE, connection, problem, "Nothing is lost.", **counts)
    return result._replace(severity=dg.AssetCheckSeverity.ERROR) if strict else result


def snapshot_checks(
    connection: str, result: SnapshotResult, params: TargetParams, missing: Sequence[str] = ()
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results for a snapshot; ``missing`` are files that the target lost."""
    for name in _BLOCKING:
        counts = result.counts if name == "rows_as_exported" else {}
        failure = verbatim(result.failed.get(name, ""))
        yield _result(name, connection, failure, _passed(result), **counts)
    tally = result.manifest.tally if result.manifest else Tally()
    before = result.before.tally if result.before else Tally()
    skipped, agreement = _share_skipped(tally), _agreement(tally)
    leaks = result.manifest.leaks if result.manifest else Leaks()
    warnings: dict[str, tuple[str, dict[str, Any]]] = {
        "no_content_leak": (_leaked(leaks), _leak_metadata(leaks)),
        "no_class_vanished": (_vanished(tally, before) if result.manifest else "", {}),
        "target_complete": (_missing(missing), {"lost": len(missing)}),
        "few_skipped": (_skipped(tally, params.skipped_at_most), {"skipped": skipped}),
        "annotators_agree": (
            _disagreement(tally, params.agreement_at_least),
            {} if agreement is None else {"agreement": agreement},
        ),
    }
    for name, (warning, figures) in warnings.items():
        yield _result(name, connection, warning, _passed(result), **figures)


def folder_checks(
    connection: str, folders: Mapping[str, Folder | str]
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results for the folders of a snapshot: by format, or why it has none."""
    written = [folder for folder in folders.values() if isinstance(folder, Folder)]
    incomplete = [folder for folder in written if folder.missing]
    missing = sum(folder.missing for folder in written)
    problem = ""
    if incomplete:
        problem = (
            f"{missing} pictures are missing, and their tasks are left out; missing.jsonl in the "
            f"folder lists them. The first is {verbatim(incomplete[0].missing_example)}"
        )
    passed = "Passed." if written else "The target asks for no folders."
    yield _result("media_complete", connection, problem, passed, missing=missing)
    leaking = [folder for folder in written if folder.leaks]
    leaks, problem = max((folder.leaks for folder in written), default=0), ""
    if leaking:
        first = " and ".join(map(verbatim, leaking[0].leak_example))
        problem = (
            f"{leaks} pictures have the same bytes as one of another split, as {first}. A model "
            "would be evaluated on what it was trained on: set the target's group_by, or remove "
            "the copies."
        )
    yield _result("no_media_leak", connection, problem, passed, pictures=leaks)


def _passed(result: SnapshotResult) -> str:
    if result.failed:
        return "Nothing was published, because another check failed."
    return "Passed." if result.is_new else "No completion changed since the last check."


def _vanished(tally: Tally, before: Tally) -> str:
    vanished = [
        verbatim(f"{label} ({control})")
        for control, labels in before.labels.items()
        for label in labels
        if label not in tally.labels.get(control, {})
    ]
    return f"No result has these labels any more: {', '.join(vanished)}." if vanished else ""


def _leaked(leaks: Leaks) -> str:
    if not leaks.contents:
        return ""
    first = [f"{task.task_id} ({task.split})" for tasks in leaks.examples[:1] for task in tasks]
    return (
        f"{leaks.tasks} tasks show the same as a task of another split ({leaks.contents} different "
        f"contents), the first are tasks {' and '.join(first)}. A model would be evaluated on what "
        "it was trained on: set the target's group_by, or remove the copies."
    )


def _leak_metadata(leaks: Leaks) -> dict[str, Any]:
    rows = [{task.split: str(task.task_id) for task in example} for example in leaks.examples]
    examples = [{str(split): row.get(split, "") for split in SPLITS} for row in rows]
    counts = {"contents": leaks.contents, "tasks": leaks.tasks}
    return {**counts, "examples": table(examples)} if examples else dict(counts)


def _missing(files: Sequence[str]) -> str:
    if not files:
        return ""
    return (
        f"{len(files)} files of completions are missing from the target, the first is "
        f"{verbatim(files[0])}. The next export writes them again."
    )


def _share_skipped(tally: Tally) -> float:
    total = tally.annotations + tally.skipped
    return tally.skipped / total if total else 0.0


def _agreement(tally: Tally) -> float | None:
    return tally.agreement / tally.compared if tally.compared else None


def _skipped(tally: Tally, at_most: float) -> str:
    share = _share_skipped(tally)
    return f"Annotators skipped {share:.0%} of their tasks." if share > at_most else ""


def _disagreement(tally: Tally, at_least: float) -> str:
    agreement = _agreement(tally)
    if agreement is None or agreement >= at_least:
        return ""
    return (
        f"Annotators agree on {agreement:.0%} of the results in the {tally.compared} tasks that "
        "several of them labeled."
    )
