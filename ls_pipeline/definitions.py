"""The one place where things are put together. Loads with no credential set."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg

from ls_pipeline.assets.checks import labels_keep_coming
from ls_pipeline.assets.completions import completions
from ls_pipeline.assets.external import EXTERNAL_ASSETS
from ls_pipeline.assets.settings import save_settings, source_settings, target_settings
from ls_pipeline.assets.tasks import tasks
from ls_pipeline.assets.training_data import training_data
from ls_pipeline.resources.client_cache import TTLCache
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors.completions import completions as completions_sensor
from ls_pipeline.sensors.gcs_objects import gcs_objects
from ls_pipeline.sensors.notifications import notifications
from ls_pipeline.sensors.s3_objects import s3_objects
from ls_pipeline.sensors.training_data import training_data as training_data_sensor

ASSETS = [tasks, completions, training_data]

load_tasks = dg.define_asset_job(
    "load_tasks", [tasks], description="Loads what changed in a connection's source as tasks."
)
export_completions = dg.define_asset_job(
    "export_completions",
    [completions],
    description="Writes a connection's changed completions to its target.",
)


@dg.resource(description="Our own durable record; see LS_PIPELINE_DATABASE_URL.")
def _ledger(_context: dg.InitResourceContext) -> Iterator[Ledger]:
    ledger = Ledger(database_url())
    try:
        yield ledger
    finally:
        ledger.engine.dispose()


@dg.resource(description="Who watches a pass: nobody, under Dagster.")
def _progress(_context: dg.InitResourceContext) -> SilentProgress:
    return SilentProgress()


def _from_environment(resource: type[Any], description: str) -> dg.ResourceDefinition:
    """Give a resource that the environment configures, and no launchpad."""
    kept = TTLCache(resource)
    return dg.ResourceDefinition(lambda _context: kept.get(), description=description)


def resources() -> dict[str, dg.ResourceDefinition]:
    """Give the outside world as the environment names it; nothing is opened yet."""
    return {
        "ledger": _ledger,
        "progress": _progress,
        "s3": _from_environment(S3Buckets, "Amazon S3: AWS_* variables, files, or a role."),
        "gcs": _from_environment(GCSBuckets, "Google Cloud Storage: default credentials."),
        "queues": _from_environment(QueueOpener, "SQS and Pub/Sub, as the two above."),
        "label_studio": _from_environment(
            LabelStudio, "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, else the home's own server."
        ),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """Put assets, jobs, sensors and resources together.

    LS_PIPELINE_POLL_SECONDS is the pause between two looks of a sensor, 30 unless set;
    LS_PIPELINE_NOTIFICATION_SECONDS that between two looks for notifications, 4 unless set:
    Dagster's daemon looks which are due in every fifth second.
    """
    seconds = int(os.environ.get("LS_PIPELINE_POLL_SECONDS") or 30)
    often = int(os.environ.get("LS_PIPELINE_NOTIFICATION_SECONDS") or 4)
    # A sweep makes and drops objects by the million, none of them in circles: to look for such,
    # and through all that is imported, took a third of its time.
    gc.freeze()
    gc.set_threshold(20_000)
    return dg.Definitions(
        assets=[source_settings, target_settings, *ASSETS, *EXTERNAL_ASSETS],
        asset_checks=[labels_keep_coming],
        jobs=[
            load_tasks,
            export_completions,
            save_settings("source", source_settings),
            save_settings("target", target_settings),
        ],
        sensors=[
            s3_objects(seconds),
            gcs_objects(seconds),
            completions_sensor(seconds),
            training_data_sensor(seconds),
            notifications(often, [load_tasks, export_completions]),
        ],
        resources=resources(),
        executor=dg.in_process_executor,
    )
