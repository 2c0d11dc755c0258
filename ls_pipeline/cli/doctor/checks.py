"""``ls-pipeline doctor``: checks everything that connections need."""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_json
from ls_pipeline.cli.context import CliContext, connection_ledgers
from ls_pipeline.cli.doctor.bucket_checks import check_queue, check_source, check_target
from ls_pipeline.cli.doctor.label_studio_checks import check_project, check_server, check_webhook
from ls_pipeline.cli.doctor.media_checks import check_blobs, check_media
from ls_pipeline.cli.doctor.report import Check, Findings, Report, has_failed, print_report
from ls_pipeline.cli.doctor.requirements import policies, setups
from ls_pipeline.cli.options import CONNECTIONS, FAILED, json_instead_of, verbatim
from ls_pipeline.domain.errors import PipelineError, StoredSettingsError
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.resources.environment import create_home, home, unusable_variables, webhook_url
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ls_pipeline.resources.ledger.connection import ConnectionLedger


EPILOG = verbatim("""
Examples:
  ls-pipeline doctor                 all connections
  ls-pipeline doctor reviews --json  one connection, one JSON object on standard output

It writes a small object to each target, and deletes it again.
""")


@click.command(epilog=EPILOG, short_help="Check everything that connections need.")
@CONNECTIONS
@json_instead_of("a listing")
@click.pass_context
def doctor(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Check everything that connections need, and print how to repair what fails.

    It checks Label Studio, sources, targets, and whether browsers can open objects. It also
    prints the minimum permissions of each connection. If a check fails, the exit code is 1.
    """
    report = examine(names, CliContext(impatient=True))
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report)
    if report.failed:
        ctx.exit(FAILED)


def examine(names: Sequence[str], cli: CliContext) -> Report:
    """Check everything in general, then these connections, or all if ``names`` is empty.

    Raises ``UnknownConnectionError`` before the first check. The checks leave nothing behind in
    buckets and Label Studio.
    """
    variables = (Check.from_error("variables", error) for error in unusable_variables())
    ledger_checks = [*variables, *_check_ledger(cli)]
    if has_failed(ledger_checks):
        return Report([*ledger_checks, *_catch_bugs(check_server(cli))], {})
    ledgers = connection_ledgers(cli.ledger, names)
    server_checks = list(_catch_bugs(check_server(cli)))
    app_works = not has_failed(server_checks)
    region = os.environ.get("AWS_DEFAULT_REGION", "")
    findings = {}
    for name, connection_ledger in ledgers.items():
        settings = connection_ledger.settings.in_force().settings
        if isinstance(settings, StoredSettingsError):
            findings[name] = Findings([Check.from_error("settings", settings)], [])
            continue
        checks = list(_catch_bugs(_check_connection(connection_ledger, cli, app_works=app_works)))
        findings[name] = Findings(checks, policies(settings, region), setups(settings, region))
    return Report([*ledger_checks, *server_checks], findings)


def _catch_bugs(checks: Iterable[Check]) -> Iterator[Check]:
    """Report an unexpected exception as a failed check, so that other connections are checked."""
    try:
        yield from checks
    except Exception as error:  # noqa: BLE001 - it becomes a finding
        message = f"A check ended with {type(error).__name__}."
        yield Check("doctor", "failed", message, "Report this as a bug.")


def _check_ledger(cli: CliContext) -> Iterator[Check]:
    try:
        count = len(cli.ledger.names())
    except PipelineError as error:
        yield Check.from_error("ledger", error)
        return
    yield from _check_state(cli)
    folder = home()
    noun = "connection" if count == 1 else "connections"
    yield Check("ledger", "ok", f"The ledger has {count} {noun}. The home is {folder}.")


def _check_state(cli: CliContext) -> Iterator[Check]:
    """Write what runs write to: the home, the ledger, and Dagster's storage."""
    try:
        with TemporaryFile(dir=create_home()) as file:
            file.write(b"doctor")
    except OSError as error:
        reason = f"{home()} is not writable: {error.strerror}."
        yield Check("home", "failed", reason, "Correct LS_PIPELINE_HOME, or free the disk.")
    try:
        cli.ledger.check_writes()
    except PipelineError as error:
        yield Check.from_error("ledger", error)
    try:
        count = cli.instance.get_runs_count()
        yield Check("dagster", "ok", f"Dagster's storage has {count:,} runs.")
    except PipelineError as error:
        yield Check.from_error("dagster", error)


def _check_runs(connection_ledger: ConnectionLedger) -> Iterator[Check]:
    """Report what a person has to decide before a run can succeed."""
    healths = map(connection_ledger.health.of, WORKS)
    for failure in dict.fromkeys(each.failure for each in healths if each.needs_decision):
        yield Check("runs", "failed", failure)


def _check_connection(
    connection_ledger: ConnectionLedger, cli: CliContext, *, app_works: bool
) -> Iterator[Check]:
    connection = connection_ledger.settings.in_force().connection
    yield from _check_runs(connection_ledger)
    if app_works:
        label_config = yield from check_project(connection_ledger, connection, cli)
    else:
        label_config = LabelConfig()
        yield Check("project", "skipped", "The check 'label studio' failed.")
    if source := connection.source:
        key = yield from check_source(source, label_config, cli)
        if source.params.use_blob_urls:
            yield from check_blobs(connection_ledger, source, key, cli, app_works=app_works)
        if app_works:
            yield from check_media(connection_ledger, source, cli)
        if source.params.notifications:
            yield from check_queue(source, cli)
    if target := connection.target:
        yield from check_target(target, cli)
        if app_works and (url := webhook_url()):
            yield from check_webhook(connection_ledger, url, cli)
