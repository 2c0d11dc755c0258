"""What commands work with: the ledger, buckets, Label Studio and Dagster's instance."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
import yaml
from filelock import FileLock

from ls_pipeline.domain.errors import DagsterStorageError, HomeError, PipelineError
from ls_pipeline.domain.text import has_escaped_login, without_login
from ls_pipeline.resources.environment import create_home, database_url, home, path_in
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.private_files import create_private_folder
from ls_pipeline.resources.queue import QueueOpener

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import dagster as dg

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.resources.s3.bucket import S3Buckets
    from ls_pipeline.settings.model import Source, Target

DAGSTER_YAML = """\
# Written once by ls-pipeline. You may change it.
telemetry:
  enabled: false
nux:
  enabled: false
sensors:
  use_threads: true
  num_workers: 4
run_coordinator:
  module: dagster
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
    dequeue_use_threads: true
    dequeue_num_workers: 4
run_monitoring:
  enabled: true
  max_resume_run_attempts: 0
  max_runtime_seconds: 90000
  start_timeout_seconds: 90
  cancel_timeout_seconds: 60
  poll_interval_seconds: 30
retention:
  sensor:
    purge_after_days:
      skipped: 1
      success: 30
      failure: 30
"""


def end_on_signals() -> None:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM, so that this process stops what it started.

    A shell starts background jobs with Ctrl-C ignored. Dagster then ignores SIGTERM, too.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@dataclass
class CliContext:
    """The systems that a command works with, as the environment configures them.

    Each is imported and opened at its first use. Importing Dagster alone takes a second, which a
    command that only reads the ledger should not need.
    """

    impatient: bool = False
    """Whether the buckets' clients try each request only twice."""

    @cached_property
    def is_interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty()

    @cached_property
    def s3(self) -> S3Buckets:
        from ls_pipeline.resources.s3.bucket import S3Buckets  # slow

        return S3Buckets(max_attempts=2) if self.impatient else S3Buckets()

    @cached_property
    def gcs(self) -> GCSBuckets:
        from ls_pipeline.resources.gcs.bucket import GCSBuckets  # slow

        return GCSBuckets(retry_seconds=10.0) if self.impatient else GCSBuckets()

    def bucket_of(self, side: Source | Target) -> Bucket:
        """Return the bucket of a connection's source or target."""
        return (self.s3 if side.cloud == "s3" else self.gcs).bucket_of(side)

    @cached_property
    def queues(self) -> QueueOpener:
        return QueueOpener()

    @cached_property
    def label_studio(self) -> LabelStudio:
        from ls_pipeline.resources.label_studio.app import LabelStudio  # slow

        return LabelStudio()

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(database_url())

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance, so that a run of `sync` shows in its UI like any other."""
        import dagster as dg  # slow

        folder = create_dagster_home()
        os.environ["DAGSTER_HOME"] = str(folder)
        # If two processes create its databases, one fails. A read-only folder stays as it is.
        lock = FileLock(folder / "opening.lock") if os.access(folder, os.W_OK) else nullcontext()
        with lock, dagster_storage():
            instance = dg.DagsterInstance.get()
            instance.get_runs_count()  # opens the database
            return instance

    @property
    def known_instance(self) -> dg.DagsterInstance:
        """Dagster's instance, if it exists. Raises ``PipelineError`` otherwise."""
        folder = dagster_home()
        if not (folder / "dagster.yaml").exists():
            hint = "Set DAGSTER_HOME or LS_PIPELINE_HOME."
            raise PipelineError(f"There is no Dagster home in {folder}.", hint=hint)
        return self.instance


pass_cli = click.make_pass_decorator(CliContext, ensure=True)
"""Passes a command the context that it works with."""


def connection_ledgers(ledger: Ledger, names: Iterable[str]) -> dict[str, ConnectionLedger]:
    """Return the ledgers of these connections, or of all if ``names`` is empty.

    Raises ``UnknownConnectionError``.
    """
    if names:
        return {name: ledger.connection_ledger(name) for name in names}
    return {status.name: status.ledger for status in ledger.statuses()}


@contextmanager
def dagster_storage() -> Iterator[None]:
    """Raise ``DagsterStorageError`` for what goes wrong with Dagster's home or database."""
    file = dagster_home() / "dagster.yaml"
    _check_url(file)
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise DagsterStorageError(str(file), without_login(reason)) from error


def _check_url(file: Path) -> None:
    """Refuse a URL that Dagster could not use, or whose password it would show."""
    try:
        settings: Any = yaml.safe_load(file.read_text()) if file.exists() else None
        url = settings["storage"]["postgres"]["postgres_url"]
    except (yaml.YAMLError, TypeError, KeyError):
        return
    url = os.environ.get(url.get("env", ""), "") if isinstance(url, dict) else str(url)
    if not has_escaped_login(url):
        what = "its postgres_url has @ / ? or # in the name or password: write each with %."
        raise DagsterStorageError(str(file), what)
    if url.startswith("postgresql+"):
        scheme = url.partition("://")[0]
        raise DagsterStorageError(
            str(file), f"its postgres_url begins with {scheme}://, and Dagster needs postgresql://."
        )


def dagster_home() -> Path:
    """Return Dagster's home: DAGSTER_HOME, or a folder in ours."""
    return path_in("DAGSTER_HOME") or home() / "dagster"


def create_dagster_home() -> Path:
    """Create Dagster's home with a configuration, unless it exists. Return its path.

    Raises ``HomeError``.
    """
    folder = dagster_home()
    try:
        if folder.is_relative_to(home()):
            create_home()
        create_private_folder(folder)
        configuration = folder / "dagster.yaml"
        if not configuration.exists():
            configuration.write_text(DAGSTER_YAML)
    except OSError as error:
        reason = f"it can't be used as Dagster's home ({error.strerror})."
        hint = "Correct DAGSTER_HOME or LS_PIPELINE_HOME, or free the disk."
        raise HomeError(str(folder), reason, hint=hint) from error
    return folder
