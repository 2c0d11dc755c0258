"""One complete pass over connections, in the foreground, by the assets themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.cli.census import census
from ls_pipeline.definitions import ASSETS
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.cli.context import Outside
    from ls_pipeline.resources.progress import Progress

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def pass_over(name: str, outside: Outside, progress: Progress) -> dict[str, Any]:
    """Find changes, load tasks, export completions, refresh the Parquet; then count.

    Gives the counts of `census` with ``quarantined`` and ``removed``; where something failed
    also ``error``, and null for what could not be counted. A source that fails does not keep
    the completions back.
    """
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    if not outside.instance.has_dynamic_partition(str(CONNECTIONS.name), name):
        outside.instance.add_dynamic_partitions(str(CONNECTIONS.name), [name])
    load, *export = ASSETS
    errors = _materialize([load], name, outside, progress)
    errors += _materialize(export, name, outside, progress)
    return _report(name, outside, errors)


def _materialize(
    assets: Sequence[dg.AssetsDefinition], name: str, outside: Outside, progress: Progress
) -> list[str]:
    result = dg.materialize(
        assets,
        partition_key=name,
        instance=outside.instance,
        resources={
            "ledger": outside.ledger,
            "s3": outside.s3,
            "gcs": outside.gcs,
            "label_studio": outside.label_studio,
            "progress": progress,
        },
        run_config=QUIET,
        raise_on_error=False,
    )
    failures = result.get_step_failure_events()
    if any(map(_is_interrupt, failures)):
        raise KeyboardInterrupt
    return [_reason(event) for event in failures]


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    """Tell whether a step failed because of Ctrl-C, which Dagster takes for a failure."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error = failure.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "The run failed; its log in Dagster says why."


def _report(name: str, outside: Outside, errors: list[str]) -> dict[str, Any]:
    account = outside.ledger.account(name)
    try:
        report: dict[str, Any] = dict(census(name, outside).as_json())
    except PipelineError as error:
        errors = [*errors, str(error)]
        counted = ("objects", "tasks", "completions", "json_files", "parquet_rows")
        report = dict.fromkeys(counted)
    report["quarantined"] = account.count_quarantined()
    report["removed"] = account.count_objects()[State.REMOVED]
    if errors:
        report["error"] = " ".join(dict.fromkeys(errors))
    return report
