"""One complete pass over connections, in the foreground, by the assets themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS
from ls_pipeline.cli.counts import count_connection
from ls_pipeline.definitions import ASSETS
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.progress import Progress

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_connection(name: str, cli: CliContext, progress: Progress) -> dict[str, Any]:
    """Find changes, load tasks, export completions, refresh the Parquet; then count.

    Return the counts of `count_connection` with ``quarantined`` and ``removed``. If something
    failed, also ``error``, and null for what could not be counted. A failing source does not
    stop the export.
    """
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    if not cli.instance.has_dynamic_partition(str(CONNECTIONS.name), name):
        cli.instance.add_dynamic_partitions(str(CONNECTIONS.name), [name])
    load, *export = ASSETS
    errors = _materialize([load], name, cli, progress)
    errors += _materialize(export, name, cli, progress)
    return _report(name, cli, errors)


def _materialize(
    assets: Sequence[dg.AssetsDefinition], name: str, cli: CliContext, progress: Progress
) -> list[str]:
    result = dg.materialize(
        assets,
        partition_key=name,
        instance=cli.instance,
        resources={
            "ledger": cli.ledger,
            "s3": cli.s3,
            "gcs": cli.gcs,
            "label_studio": cli.label_studio,
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


def _report(name: str, cli: CliContext, errors: list[str]) -> dict[str, Any]:
    account = cli.ledger.account(name)
    try:
        report: dict[str, Any] = dict(count_connection(name, cli).as_json())
    except PipelineError as error:
        errors = [*errors, str(error)]
        counted = ("objects", "tasks", "completions", "json_files", "parquet_rows")
        report = dict.fromkeys(counted)
    report["quarantined"] = account.count_quarantined()
    report["removed"] = account.count_objects()[State.REMOVED]
    if errors:
        report["error"] = " ".join(dict.fromkeys(errors))
    return report
