"""Dagster's definitions: assets, jobs, sensors and resources. They load without credentials."""

import gc
from collections.abc import Callable, Iterator

import dagster as dg

from ls_pipeline.assets.checks import connections_healthy, labels_keep_coming
from ls_pipeline.assets.completions import completions
from ls_pipeline.assets.external import EXTERNAL_ASSETS
from ls_pipeline.assets.settings import save_settings, source_settings, target_settings
from ls_pipeline.assets.tasks import tasks
from ls_pipeline.assets.training_data import training_data
from ls_pipeline.resources.client_cache import TTLCache
from ls_pipeline.resources.environment import (
    asset_owners,
    database_url,
    gc_threshold,
    notification_seconds,
    poll_seconds,
)
from ls_pipeline.resources.gcs.resource import gcs_buckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.resource import s3_buckets
from ls_pipeline.sensors.completions import completions as completions_sensor
from ls_pipeline.sensors.notifications import notifications
from ls_pipeline.sensors.objects import gcs_objects, s3_objects
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


@dg.resource(description="The ledger, in the database that LS_PIPELINE_DATABASE_URL names.")
def _ledger(_context: dg.InitResourceContext) -> Iterator[Ledger]:
    ledger = Ledger(database_url())
    try:
        yield ledger
    finally:
        ledger.close()


def _from_environment(create: Callable[[], object], description: str) -> dg.ResourceDefinition:
    """Return a resource that environment variables configure, without a config schema."""
    cache = TTLCache(create)
    return dg.ResourceDefinition(lambda _context: cache.get(), description=description)


def resources() -> dict[str, dg.ResourceDefinition]:
    """Return the resources. Each opens its connections at its first use."""
    return {
        "ledger": _ledger,
        "progress": dg.ResourceDefinition.hardcoded_resource(
            SilentProgress(), "Progress bars of the command line. Dagster shows none."
        ),
        "s3": _from_environment(s3_buckets, "Amazon S3: AWS_* variables, files, or a role."),
        "gcs": _from_environment(gcs_buckets, "Google Cloud Storage: default credentials."),
        "queues": _from_environment(
            QueueOpener, "SQS and Pub/Sub, with the credentials of S3 and GCS."
        ),
        "label_studio": _from_environment(
            LabelStudio,
            "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, or the server that `start` runs.",
        ),
    }


def tune_garbage_collector(threshold: int) -> None:
    """Run Python's cycle collector rarely, and never on what is imported so far.

    A full scan allocates millions of objects, none of them in cycles. Collections took a third
    of its time.
    """
    gc.freeze()
    gc.set_threshold(threshold)


@dg.definitions
def defs() -> dg.Definitions:
    """Return all definitions, as the environment configures them.

    LS_PIPELINE_POLL_SECONDS and LS_PIPELINE_NOTIFICATION_SECONDS are the intervals of the sensors;
    Dagster's daemon starts ticks every five seconds. LS_PIPELINE_GC_THRESHOLD is set by
    `ls-pipeline start` and by the image, whose code servers and runs load only this project.
    """
    if threshold := gc_threshold():
        tune_garbage_collector(threshold)
    owners = asset_owners()
    assets: list[dg.AssetsDefinition | dg.AssetSpec]
    assets = [source_settings, target_settings, *ASSETS, *EXTERNAL_ASSETS]
    return dg.Definitions(
        assets=dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), assets),
        asset_checks=[labels_keep_coming, connections_healthy],
        jobs=[
            load_tasks,
            export_completions,
            save_settings("source", source_settings),
            save_settings("target", target_settings),
        ],
        sensors=[
            s3_objects(poll_seconds()),
            gcs_objects(poll_seconds()),
            completions_sensor(poll_seconds()),
            training_data_sensor(poll_seconds()),
            notifications(notification_seconds(), [load_tasks, export_completions]),
        ],
        resources=resources(),
        executor=dg.in_process_executor,
    )
