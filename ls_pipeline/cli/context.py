"""The outside world of a command: ledger, buckets, Label Studio and Dagster's instance."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.environment import database_url, home
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.queue import QueueOpener

if TYPE_CHECKING:
    import dagster as dg

    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.s3.bucket import S3Buckets

DAGSTER_YAML = """\
# Made by ls-pipeline; yours to change.
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
retention:
  sensor:
    purge_after_days:
      skipped: 1
      success: 30
      failure: 30
"""


def end_on_signals() -> None:
    """Have Ctrl-C and TERM end this process as an error does: what it started ends before it.

    A shell ignores Ctrl-C for what it runs in the background; Dagster then ignores TERM, too.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@dataclass
class CliContext:
    """What a command works on, as the environment names it.

    All of it is opened when it is needed, and imported then: Dagster alone takes a second, which
    a command that looks at the ledger needn't pay.
    """

    impatient: bool = False
    """Whether the buckets' clients try each request twice only."""

    @cached_property
    def s3(self) -> S3Buckets:
        from ls_pipeline.resources.s3.bucket import S3Buckets  # slow

        return S3Buckets(max_attempts=2) if self.impatient else S3Buckets()

    @cached_property
    def gcs(self) -> GCSBuckets:
        from ls_pipeline.resources.gcs.bucket import GCSBuckets  # slow

        return GCSBuckets(retry_seconds=10.0) if self.impatient else GCSBuckets()

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
        """Give Dagster's instance, so that a pass shows in its UI like any other run."""
        import dagster as dg  # slow

        place = dagster_home()
        os.environ["DAGSTER_HOME"] = str(place)
        # Of two that make its databases, one fails; where nothing can be written, none are made.
        lock = FileLock(place / "opening.lock") if os.access(place, os.W_OK) else nullcontext()
        with lock:
            return dg.DagsterInstance.get()

    @property
    def known_instance(self) -> dg.DagsterInstance:
        """Give Dagster's instance; raises ``PipelineError`` where there is none yet."""
        place = dagster_place()
        if not (place / "dagster.yaml").exists():
            raise PipelineError(
                f"There is no Dagster in {place}; set DAGSTER_HOME, or LS_PIPELINE_HOME, to where "
                "it runs."
            )
        return self.instance


def dagster_place() -> Path:
    """Say where Dagster's home is: DAGSTER_HOME, or inside ours."""
    return Path(os.environ.get("DAGSTER_HOME") or home() / "dagster")


def dagster_home() -> Path:
    """Give Dagster's home, DAGSTER_HOME or inside ours, with a configuration if it has none."""
    place = dagster_place()
    place.mkdir(parents=True, exist_ok=True)
    settings = place / "dagster.yaml"
    if not settings.exists():
        settings.write_text(DAGSTER_YAML)
    return place
