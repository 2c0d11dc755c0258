"""``ls-pipeline start``: Dagster, a local Label Studio where there is none, and connections."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from filelock import FileLock, Timeout

from ls_pipeline.cli.connections.commands import apply_file, from_flags, side_options, tell
from ls_pipeline.cli.console import err, print_error, print_lines
from ls_pipeline.cli.context import CliContext, create_dagster_home, end_on_signals
from ls_pipeline.cli.options import FILE, PORT
from ls_pipeline.cli.servers.local_servers import USERNAME, dagster_server, label_studio_server
from ls_pipeline.cli.servers.ports import HOST, WEBHOOKS_HOST, choose_port, is_address
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.domain.errors import HomeError, LedgerError
from ls_pipeline.engine.settings_change import plan_change
from ls_pipeline.resources.environment import (
    LabelStudioAddress,
    home,
    webhook_secret,
    write_local_label_studio,
)
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ls_pipeline.resources.ledger.status import Standing
    from ls_pipeline.settings.model import Connection

DAGSTER_PORT, LABEL_STUDIO_PORT, WEBHOOKS_PORT = 3000, 8080, 3001
"""Where these usually are; another free port where one is taken."""

OURS = ("ledger.db*", "dagster", "label-studio", "logs", "copies", "webhook-secret")
"""What a home holds, and what beginning anew puts aside."""

FOR_BUCKETS = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "S3_ENDPOINT")
FOR_NETWORKS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")
"""Begins of the variables that a local Label Studio gets, so that it can open objects."""

LOOK_SECONDS = 2.0


START_EPILOG = """
\b
Examples:
  JSON tasks from a bucket:
    ls-pipeline start --init --source s3 --source-path my-bucket
  Pictures, sound or video, shown by their URL:
    ls-pipeline start --init --source gcs --source-path my-bucket \\
      --source-params '{"data_key": "image", "use_blob_urls": true}'
  Labels written to a bucket:
    ls-pipeline start --init --target s3-completions --target-path my-labels
  Many connections, from a file kept in git:
    ls-pipeline start --connections connections.yaml
  Go on where it was:
    ls-pipeline start
"""


@click.command(epilog=START_EPILOG, short_help="Run everything: Dagster, Label Studio, sensors.")
@click.option("--init", is_flag=True, help="Make a connection, in a home that has none.")
@side_options
@click.option("--name", help="The connection's name [the bucket's].")
@click.option("--connections", "file", metavar="FILE", type=FILE, help="YAML of connections.")
@click.option("--home", metavar="DIR", help="Where its state is kept [.ls_pipeline].")
@click.option("--force", is_flag=True, help="With --init: put an existing state aside.")
@click.option("--port", type=PORT, help="Dagster's port [3000, or a free one].")
@click.option("--label-studio-port", type=PORT, help="Label Studio's [8080, or a free one].")
@click.option("--webhooks-port", type=PORT, help="The webhook receiver's [3001, or a free one].")
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
    """Run Dagster with its sensors, and a Label Studio unless LABEL_STUDIO_URL points at one.

    Everything is bound to loopback, and runs until Ctrl-C. A connection that exists is changed
    in Dagster, or with `ls-pipeline connections add`.
    """
    sides = flags["source"] or flags["target"]
    if sides and not init:
        raise click.UsageError(
            "--source and --target go with --init; a connection that exists is changed in "
            "Dagster, or with `ls-pipeline connections add`."
        )
    if init and not sides and not file:
        raise click.UsageError("--init needs --source, --target or --connections.")
    if force and not init:
        raise click.UsageError("--force goes with --init.")
    if home:
        os.environ["LS_PIPELINE_HOME"] = home
    bucket = flags["source_path"] or flags["target_path"]
    one = from_flags(name or bucket.replace(".", "-"), **flags) if sides else None
    try:
        ports = (port, label_studio_port, webhooks_port)
        run(Wanted(init, force, one, file, *ports))
    except KeyboardInterrupt:
        err.print("Everything is stopped.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked `start` for."""

    init: bool
    force: bool
    connection: Connection | None
    file: Path | None
    port: int | None
    label_studio_port: int | None
    webhooks_port: int | None


def run(wanted: Wanted) -> None:
    """Run everything until Ctrl-C.

    Raises ``HomeError`` when the home is in use, or not in the state that was asked for, and
    ``PipelineError`` when something does not come up.
    """
    end_on_signals()
    with _only_one():
        _prepare(wanted)
        cli = CliContext()
        with (
            _receiver(wanted, cli) as receiver,
            _label_studio(wanted, receiver) as labels,
            _scratch() as scratch,
        ):
            _store(wanted, cli)
            dagster = _dagster(wanted, scratch)
            with running([dagster], _tell):
                _say_where(dagster, labels, cli)
                _watch([dagster, *labels], cli)


@contextmanager
def _only_one() -> Iterator[None]:
    """Keep a second `start` out of the home."""
    home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(home() / "start.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise HomeError(
            str(home()), "another `ls-pipeline start` runs in it; stop that one, or use --home."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _prepare(wanted: Wanted) -> None:
    """See that the home is as asked for; begin anew only where that was said."""
    names = CliContext().ledger.names()
    if not wanted.init and not wanted.file and not names:
        raise HomeError(
            str(home()), "there is no connection yet; use --init with --source or --target."
        )
    if not wanted.init or not names:
        return
    if not wanted.force:
        raise HomeError(
            str(home()),
            f"it holds connections already ({', '.join(names)}). Leave out --init to go on with "
            "them, use --home for another place, or --force to put the old state aside and begin "
            "anew.",
        )
    _put_aside()


def _put_aside() -> None:
    if os.environ.get("LS_PIPELINE_DATABASE_URL"):
        raise HomeError(
            str(home()),
            "the ledger is in LS_PIPELINE_DATABASE_URL, and --force begins anew only in a home; "
            "use another database.",
        )
    aside = home() / f"before-{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%S}"
    aside.mkdir()
    for pattern in OURS:
        for old in home().glob(pattern):
            shutil.move(old, aside / old.name)
    print_lines(f"The old state is in {aside}.")


@contextmanager
def _receiver(wanted: Wanted, cli: CliContext) -> Iterator[str]:
    """Receive webhooks, where a Label Studio can call; give where, or nothing."""
    if os.environ.get("LS_PIPELINE_WEBHOOK_URL"):
        host = HOST  # what people put before it leads here
    elif not os.environ.get("LABEL_STUDIO_URL") and is_address(WEBHOOKS_HOST):
        host = WEBHOOKS_HOST
    else:
        yield ""
        return
    from ls_pipeline.cli.servers.webhook_receiver import serving  # slow

    port = choose_port(wanted.webhooks_port, WEBHOOKS_PORT, host)
    with serving(cli.ledger, webhook_secret(), host, port) as url:
        yield url


@contextmanager
def _label_studio(wanted: Wanted, receiver: str) -> Iterator[list[Server]]:
    """Run a local Label Studio, unless LABEL_STUDIO_URL points at one that answers."""
    if os.environ.get("LABEL_STUDIO_URL"):
        CliContext().label_studio.now()
        yield []
        return
    given = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(FOR_BUCKETS) or name.upper() in FOR_NETWORKS
    }
    port = choose_port(wanted.label_studio_port, LABEL_STUDIO_PORT)
    labels = label_studio_server(home() / "label-studio", home() / "logs", given, port=port)
    with running([labels], _tell):
        key = labels.client_environment["LABEL_STUDIO_API_KEY"]
        write_local_label_studio(LabelStudioAddress(labels.url, key, receiver))
        try:
            yield [labels]
        finally:
            write_local_label_studio(None)


@contextmanager
def _scratch() -> Iterator[str]:
    """Give a temporary folder for the sockets that Dagster leaves behind when it is stopped.

    It is not in the home, which may lie deep: a socket's path has at most 103 characters.
    """
    with tempfile.TemporaryDirectory(prefix="ls-pipeline-", ignore_cleanup_errors=True) as scratch:
        yield scratch


def _dagster(wanted: Wanted, scratch: str) -> Server:
    os.environ["DAGSTER_HOME"] = str(home() / "dagster")
    create_dagster_home()
    environment = {**os.environ, "LS_PIPELINE_HOME": str(home()), "TMPDIR": scratch}
    port = choose_port(wanted.port, DAGSTER_PORT)
    return dagster_server(home() / "logs", environment, port=port)


def _store(wanted: Wanted, cli: CliContext) -> None:
    if wanted.connection:
        change = plan_change(cli.ledger, wanted.connection)
        tell(change, change.save(cli.ledger, getpass.getuser()))
    if wanted.file:
        apply_file(wanted.file, cli)


def _tell(server: Server, state: str) -> None:
    usual = " (usually 10 to 60 seconds)" if state == "starting" else ""
    err.print(f"{server.name}: {state}{usual}", highlight=False)


def _say_where(dagster: Server, labels: list[Server], cli: CliContext) -> None:
    print_lines(f"Dagster       {dagster.url}")
    for server in labels:
        password = server.environment["LABEL_STUDIO_PASSWORD"]
        print_lines(f"Label Studio  {server.url}  (login {USERNAME}, password {password})")
    if not labels:
        print_lines(f"Label Studio  {cli.label_studio.base_url}")
    print_lines(f"Home          {home()}", "Ctrl-C stops everything; `ls-pipeline start` goes on.")


def _watch(servers: list[Server], cli: CliContext) -> None:
    """Say how each connection comes on, for as long as all servers live.

    Its rows are counted while a run holds it, and once after that.
    """
    said: dict[str, list[str]] = {}
    counted: dict[str, object] = {}
    silent = ""
    while True:
        try:
            for one in cli.ledger.standings():
                moved = (one.fence, one.healths)
                if not one.held_by and counted.get(one.name) == moved:
                    continue
                before, now = said.get(one.name, []), _state(one)
                counted[one.name] = None if one.held_by else moved
                if now != before:
                    print_lines(*(f"{one.name}: {line}" for line in now if line not in before))
                    said[one.name] = now
            silent = ""
        except LedgerError as error:  # sensors and runs try again, and people go on labeling
            if str(error) != silent:
                silent = str(error)
                print_error(silent)
        for server in servers:
            server.check()
        time.sleep(LOOK_SECONDS)


def _state(standing: Standing) -> list[str]:
    account = standing.account
    counts = {
        "loaded as tasks": account.count_tasks(),
        "in quarantine": account.count_quarantined(),
        "written as completions": account.count_exported()[0],
    }
    found = [f"{count} {what}." for what, count in counts.items() if count]
    failures = (standing.health(work).failure for work in WORKS)
    return found + list(dict.fromkeys(filter(None, failures)))
