"""``ls-pipeline start``: runs Dagster, and a local Label Studio unless there is another."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from filelock import FileLock, Timeout

from ls_pipeline.cli.connections.commands import report, store, store_file
from ls_pipeline.cli.connections.flags import ConnectionFlags, connection_options
from ls_pipeline.cli.console import err, print_error, print_lines
from ls_pipeline.cli.context import CliContext, create_dagster_home, end_on_signals
from ls_pipeline.cli.options import FILE, PORT, verbatim
from ls_pipeline.cli.servers.local_servers import USERNAME, dagster_server, label_studio_server
from ls_pipeline.cli.servers.ports import HOST, WEBHOOKS_HOST, choose_port, is_address
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.domain.errors import HomeError, LedgerError
from ls_pipeline.resources.environment import (
    LabelStudioAddress,
    create_home,
    home,
    poll_seconds,
    unusable_variables,
    webhook_secret,
    write_local_label_studio,
)
from ls_pipeline.resources.ledger.health import failed_looks
from ls_pipeline.resources.ledger.records import WORKS
from ls_pipeline.resources.ledger.ticks import SENSOR_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ls_pipeline.resources.ledger.status import ConnectionStatus

DAGSTER_PORT, LABEL_STUDIO_PORT, WEBHOOKS_PORT = 3000, 8080, 3001
"""The usual ports. If one is taken, a free port is used."""

STATE_FILES = ("ledger.db*", "dagster", "label-studio", "logs", "copies", "webhook-secret")
"""The contents of a home, which ``--force`` moves away."""

BUCKET_VARIABLES = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "S3_ENDPOINT")
"""Prefixes of the variables that a local Label Studio gets, so that it can open objects."""
NETWORK_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")

REFRESH_SECONDS = 2.0

EPILOG = verbatim("""
Examples:
  JSON tasks from a bucket:
    ls-pipeline start --init --source s3 --source-path my-bucket
  Images, audio or video shown by URL:
    ls-pipeline start --init --source gcs --source-path my-bucket \\
      --source-params '{"data_key": "image", "use_blob_urls": true}'
  Labels written to a bucket:
    ls-pipeline start --init --target s3-completions --target-path my-labels
  Many connections from a file:
    ls-pipeline start --connections connections.yaml
  Continue with the connections of the home:
    ls-pipeline start
""")


@click.command(epilog=EPILOG, short_help="Run Dagster and Label Studio on this machine.")
@click.option("--init", is_flag=True, help="Create the first connection of a home.")
@connection_options
@click.option("--name", help="The connection's name. [default: the bucket's name]")
@click.option(
    "--connections", "file", metavar="FILE", type=FILE, help="Store the connections of a YAML file."
)
@click.option("--home", metavar="DIR", help="The folder for local state. [default: .ls_pipeline]")
@click.option("--force", is_flag=True, help="With --init: move existing state to a subfolder.")
@click.option("--port", type=PORT, help="Dagster's port. [default: 3000, or a free port]")
@click.option(
    "--label-studio-port", type=PORT, help="Label Studio's port. [default: 8080, or a free port]"
)
@click.option(
    "--webhooks-port",
    type=PORT,
    help="The webhook receiver's port. [default: 3001, or a free port]",
)
def start(  # noqa: PLR0913 - one for each flag
    *,
    init: bool,
    name: str | None,
    file: Path | None,
    home: str | None,
    force: bool,
    port: int | None,
    label_studio_port: int | None,
    webhooks_port: int | None,
    **flags: Any,
) -> None:
    """Run Dagster with its sensors, and Label Studio unless LABEL_STUDIO_URL is set.

    All servers listen on loopback only, and run until Ctrl-C. To change an existing connection,
    use Dagster or `ls-pipeline connections add`.
    """
    given = ConnectionFlags(**flags)
    _check_usage(given, file, init=init, force=force)
    if home:
        os.environ["LS_PIPELINE_HOME"] = home
    connection = None
    if given.source or given.target:
        bucket = given.source_path or given.target_path
        connection = given.build(name or bucket.replace(".", "-"))
    for error in unusable_variables():
        raise error  # Dagster would show it only on its pages
    try:
        end_on_signals()
        with _lock_home():
            _prepare_home(init=init, force=force, needs_connections=not file)
            cli = CliContext()
            with (
                _webhook_receiver(webhooks_port, cli) as webhooks_url,
                _label_studio(label_studio_port, webhooks_url) as label_studio,
                # Dagster leaves sockets in its temporary folder. It is not in the home, whose path
                # may be long: a socket's path has at most 103 characters.
                TemporaryDirectory(prefix="ls-pipeline-", ignore_cleanup_errors=True) as sockets,
            ):
                if connection:
                    report([store(cli.ledger, connection)])
                if file:
                    report(store_file(file, cli.ledger))
                dagster = _dagster(port, sockets)
                try:
                    with running([dagster], _print_state):
                        _print_addresses(dagster, label_studio, cli)
                        _expect_ticks(cli)
                        _watch([dagster, *label_studio], cli)
                except KeyboardInterrupt:
                    with suppress(LedgerError):  # else `status` says that the sensors are late
                        cli.ledger.ticks.forget(SENSOR_NAMES)
                    raise
                finally:
                    from ls_pipeline.sensors.dead_runs import report_dead_runs  # slow

                    report_dead_runs(cli.instance, cli.ledger, cli.ledger.names())
    except KeyboardInterrupt:
        err.print("Everything is stopped.")


def _check_usage(given: ConnectionFlags, file: Path | None, *, init: bool, force: bool) -> None:
    has_side = given.source or given.target
    if has_side and not init:
        raise click.UsageError(
            "--source and --target need --init. To change an existing connection, use Dagster or "
            "`ls-pipeline connections add`."
        )
    if init and not has_side and not file:
        raise click.UsageError("--init needs --source, --target or --connections.")
    if force and not init:
        raise click.UsageError("--force needs --init.")
    if has_side and not (given.source_path or given.target_path):
        raise click.UsageError("--source needs --source-path, and --target needs --target-path.")


def _lock_home() -> AbstractContextManager[object]:
    """Lock the home against a second `start`."""
    try:
        return FileLock(create_home() / "start.lock", timeout=0).acquire()
    except Timeout as error:
        reason = "another `ls-pipeline start` runs in it."
        hint = "Stop it, or choose another folder with --home."
        raise HomeError(str(home()), reason, hint=hint) from error


def _prepare_home(*, init: bool, force: bool, needs_connections: bool) -> None:
    """Check that the home's state fits the flags. Move it away if ``--force`` says so."""
    names = CliContext().ledger.names()
    if not names and not init and needs_connections:
        hint = "Use --init with --source or --target, or use --connections."
        raise HomeError(str(home()), "there are no connections yet.", hint=hint)
    if not names or not init:
        return
    if not force:
        raise HomeError(
            str(home()),
            f"it already has connections ({', '.join(names)}).",
            hint="Leave out --init to continue with them, choose another folder with --home, or "
            "move the old state away with --force.",
        )
    if os.environ.get("LS_PIPELINE_DATABASE_URL"):
        reason = "--force moves only files, and the ledger is in LS_PIPELINE_DATABASE_URL."
        raise HomeError(str(home()), reason, hint="Use another database.")
    folder = home() / f"before-{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%S}"
    folder.mkdir()
    for pattern in STATE_FILES:
        for file in home().glob(pattern):
            shutil.move(file, folder / file.name)
    print_lines(f"The old state is now in {folder}.")


def _webhook_receiver(port: int | None, cli: CliContext) -> AbstractContextManager[str]:
    """Receive webhooks if Label Studio can call this machine. Yield the URL, or an empty string."""
    if os.environ.get("LS_PIPELINE_WEBHOOK_URL"):
        host = HOST  # the user's proxy forwards to it
    elif not os.environ.get("LABEL_STUDIO_URL") and is_address(WEBHOOKS_HOST):
        host = WEBHOOKS_HOST
    else:
        return nullcontext("")
    from ls_pipeline.cli.servers.webhook_receiver import serving  # slow

    return serving(cli.ledger, webhook_secret(), host, choose_port(port, WEBHOOKS_PORT, host))


@contextmanager
def _label_studio(port: int | None, webhooks_url: str) -> Iterator[list[Server]]:
    """Run a local Label Studio. If LABEL_STUDIO_URL is set, check that it answers instead."""
    if os.environ.get("LABEL_STUDIO_URL"):
        CliContext().label_studio.now()
        yield []
        return
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(BUCKET_VARIABLES) or name.upper() in NETWORK_VARIABLES
    }
    port = choose_port(port, LABEL_STUDIO_PORT)
    server = label_studio_server(home() / "label-studio", home() / "logs", environment, port=port)
    with running([server], _print_state):
        key = server.client_environment["LABEL_STUDIO_API_KEY"]
        write_local_label_studio(LabelStudioAddress(server.url, key, webhooks_url))
        try:
            yield [server]
        finally:
            write_local_label_studio(None)


def _dagster(port: int | None, temporary: str) -> Server:
    os.environ["DAGSTER_HOME"] = str(home() / "dagster")
    create_dagster_home()
    environment = {**os.environ, "LS_PIPELINE_HOME": str(home()), "TMPDIR": temporary}
    port = choose_port(port, DAGSTER_PORT)
    return dagster_server(home() / "logs", environment, port=port)


def _print_state(server: Server, state: str) -> None:
    duration = " (usually 10 to 60 seconds)" if state == "starting" else ""
    err.print(f"{server.name}: {state}{duration}")


def _print_addresses(dagster: Server, label_studio: list[Server], cli: CliContext) -> None:
    print_lines(f"Dagster       {dagster.url}")
    for server in label_studio:
        password = server.environment["LABEL_STUDIO_PASSWORD"]
        print_lines(f"Label Studio  {server.url}  (login {USERNAME}, password {password})")
    if not label_studio:
        print_lines(f"Label Studio  {cli.label_studio.base_url}")
    print_lines(
        f"Home          {home()}",
        "Ctrl-C stops everything. To continue later, run `ls-pipeline start`.",
    )


def _expect_ticks(cli: CliContext) -> None:
    """Have a sensor whose first tick never comes show in the status of its connections."""
    from ls_pipeline.sensors.tick import switched_off  # slow

    for sensor in SENSOR_NAMES - switched_off(cli.instance):
        cli.ledger.ticks.record(sensor, poll_seconds())


def _watch(servers: list[Server], cli: CliContext) -> None:
    """Print what happens to each connection. Raises ``ServerFailedError`` when a server ends."""
    printer = _ProgressPrinter()
    last_error = ""
    while True:
        try:
            for status in cli.ledger.statuses():
                printer.update(status)
            last_error = ""
        except LedgerError as error:  # sensors and runs try again, so the servers stay up
            if str(error) != last_error:
                last_error = str(error)
                print_error(last_error)
        for server in servers:
            server.check()
        time.sleep(REFRESH_SECONDS)


class _ProgressPrinter:
    """Prints the counts and errors of connections when they change."""

    def __init__(self) -> None:
        self._printed: dict[str, list[str]] = {}
        self._versions: dict[str, object] = {}

    def update(self, status: ConnectionStatus) -> None:
        """Count the rows of a connection while a run holds it, and once after the run."""
        name = status.name
        version = status.fence, status.healths, status.failed_looks
        if not status.held_by and self._versions.get(name) == version:
            return
        self._versions[name] = None if status.held_by else version
        before, lines = self._printed.get(name, []), _lines(status)
        print_lines(*(f"{name}: {line}" for line in lines if line not in before))
        self._printed[name] = lines


def _lines(status: ConnectionStatus) -> list[str]:
    connection_ledger = status.ledger
    counts = {
        "loaded as tasks": connection_ledger.objects.count_tasks(),
        "in quarantine": connection_ledger.objects.count_quarantined(),
        "written as completions": connection_ledger.exports.count()[0],
    }
    failures = (status.health(work).failure for work in WORKS)
    return [
        *filter(None, [status.refusal]),
        *(f"{count} {what}." for what, count in counts.items() if count),
        *dict.fromkeys(filter(None, failures)),
        *failed_looks(status.failed_looks, status.read_at).values(),
    ]
