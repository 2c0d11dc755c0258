"""``ls-pipeline sync``: runs the assets of connections in the foreground."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.console import print_json, print_no_connections, show_counts, show_progress
from ls_pipeline.cli.context import connection_ledgers, dagster_storage, end_on_signals, pass_cli
from ls_pipeline.cli.counts import Counts, count_connection
from ls_pipeline.cli.options import CONNECTIONS, FAILED, json_instead_of, verbatim
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.environment import poll_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dagster as dg

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.progress import Progress

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

EPILOG = verbatim("""
Examples:
  ls-pipeline sync                      all connections
  ls-pipeline sync reviews cats --json  two connections, one JSON object on standard output
  ls-pipeline sync reviews --allow-mass-change   allow once what a run stopped at
""")


@click.command(epilog=EPILOG, short_help="Run connections once, in the foreground.")
@CONNECTIONS
@click.option(
    "--allow-mass-change",
    is_flag=True,
    help="Let these runs delete, empty or bury most of what a connection has.",
)
@json_instead_of("a table")
@pass_cli
@click.pass_context
def sync(
    ctx: click.Context,
    cli: CliContext,
    names: tuple[str, ...],
    allow_mass_change: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001
) -> None:
    """Load new tasks, export finished labels and write training data, once.

    If one connection fails, the others still run, and the exit code is 1.
    """
    if allow_mass_change and not names:
        raise click.UsageError("Name the connections that --allow-mass-change is for.")
    end_on_signals()
    keep_pygments_out()
    ledgers = connection_ledgers(cli.ledger, names)  # an unknown name raises before anything runs
    _ = cli.instance if ledgers else None  # so does a home of Dagster that is unusable
    with show_progress() as progress:
        reports = {
            name: _run_alone(name, cli, progress, allow_mass_change=allow_mass_change)
            for name in ledgers
        }
    if as_json:
        print_json({"connections": reports})
    elif reports:
        show_counts(reports)
    else:
        print_no_connections()
    if any("error" in report for report in reports.values()):
        ctx.exit(FAILED)


def _run_alone(
    name: str, cli: CliContext, progress: Progress, *, allow_mass_change: bool
) -> dict[str, Any]:
    """Run a connection as `run_connection` does; report whatever it raises, too."""
    try:
        return run_connection(name, cli, progress, allow_mass_change=allow_mass_change)
    except Exception as error:  # noqa: BLE001 - the other connections still run
        counts = dict.fromkeys(each.name for each in fields(Counts))
        return {**counts, "quarantined": None, "removed": None, "error": _sentence(error)}


def run_connection(
    name: str, cli: CliContext, progress: Progress, *, allow_mass_change: bool = False
) -> dict[str, Any]:
    """Load tasks, export completions and write training data. Return counts.

    They are those of `count_connection`, with ``quarantined`` and ``removed``. If something
    failed there is also ``error``, and None for what could not be counted. Completions are
    exported even if the source fails.
    """
    from ls_pipeline.assets.pipeline import STANDALONE  # slow
    from ls_pipeline.project.build import work_assets
    from ls_pipeline.sensors.dead_runs import report_dead_runs

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    share_memory_with_arrow()
    keep_pandas_out()
    report_dead_runs(cli.instance, cli.ledger, [name])
    partitions = str(STANDALONE.partitions.name)
    if not cli.instance.has_dynamic_partition(partitions, name):
        cli.instance.add_dynamic_partitions(partitions, [name])
    config = {"config": {"allow_mass_change": allow_mass_change}}
    load, *export = work_assets(STANDALONE, poll_seconds())
    errors = _materialize([load], name, cli, progress, {"tasks": config})
    errors += _materialize(export, name, cli, progress, {"completions": config})
    return _report(name, cli, errors)


class _Absent(MetaPathFinder):
    """Finds no package of a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.name:
            raise ModuleNotFoundError(name)


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Have what is imported in the block do without a package."""
    finder = _Absent(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def keep_pandas_out() -> None:
    """Have pyarrow do without pandas, which takes 40 MB, until a program asks for a frame.

    pyarrow imports it with the first list that it gets, to know a pandas array when it sees one
    (``_have_pandas_internal`` in its pandas-shim.pxi). This process has none.
    """
    with _without("pandas"):
        import pyarrow as pa  # slow

        pa.array([0])


def share_memory_with_arrow() -> None:
    """Have Arrow allocate memory as the rest of the process does: its own way takes 2 MB more."""
    import pyarrow as pa  # slow

    pa.set_memory_pool(pa.system_memory_pool())


def keep_pygments_out() -> None:
    """Have Alembic's templates do without Pygments, which takes 5 MB to colour their errors."""
    with _without("pygments"):
        import alembic.util  # slow  # noqa: F401


def _materialize(
    assets: Sequence[dg.AssetsDefinition],
    name: str,
    cli: CliContext,
    progress: Progress,
    ops: Mapping[str, Any],
) -> list[str]:
    import dagster as dg  # slow

    with dagster_storage():
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
            run_config={**QUIET, "ops": ops},
            raise_on_error=False,
        )
    failures = result.get_step_failure_events()
    if any(map(_is_interrupt, failures)):
        raise KeyboardInterrupt
    return [_reason(event) for event in failures]


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    """Return whether a step ended because of Ctrl-C, which Dagster reports as a failure."""
    import dagster as dg  # slow

    error = event.step_failure_data.error
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error = failure.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "The run failed. Its log in Dagster has the reason."


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"


def _report(name: str, cli: CliContext, errors: list[str]) -> dict[str, Any]:
    connection_ledger = cli.ledger.connection_ledger(name)
    try:
        report: dict[str, Any] = dict(asdict(count_connection(name, cli)))
    except Exception as error:  # noqa: BLE001 - the other connections still run
        errors = [*errors, _sentence(error)]
        report = dict.fromkeys(field.name for field in fields(Counts))
    report["quarantined"] = connection_ledger.objects.count_quarantined()
    report["removed"] = connection_ledger.objects.count()[State.REMOVED]
    if errors:
        report["error"] = " ".join(dict.fromkeys(errors))
    return report
