"""Puts the definitions of one pipeline together, for any Dagster project."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from ls_pipeline.assets.checks import connections_healthy, labels_keep_coming
from ls_pipeline.assets.completions import completions
from ls_pipeline.assets.external import external_assets
from ls_pipeline.assets.pipeline import OwnLedger, Pipeline
from ls_pipeline.assets.settings import save_settings, settings
from ls_pipeline.assets.tasks import tasks
from ls_pipeline.assets.training_data import training_data
from ls_pipeline.domain.errors import InvalidVariableError, LedgerError
from ls_pipeline.project.training_data import TrainingData
from ls_pipeline.resources import environment
from ls_pipeline.resources.client_cache import TTLCache
from ls_pipeline.resources.gcs.resource import gcs_buckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.database import parse_database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.resource import s3_buckets
from ls_pipeline.sensors.completions import completions as completions_sensor
from ls_pipeline.sensors.notifications import notifications
from ls_pipeline.sensors.objects import objects
from ls_pipeline.sensors.training_data import training_data as training_data_sensor
from ls_pipeline.settings.declarations import read_declarations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dagster_aws.s3 import S3Resource
    from dagster_gcp.gcs import GCSResource


def build_definitions(  # noqa: PLR0913 - each is a setting with a default
    *,
    prefix: str,
    group: str = "labeling",
    owners: Sequence[str] | None = None,
    home: str = "",
    database_url: str = "",
    webhook_url: str = "",
    label_studio: LabelStudio | None = None,
    s3: S3Resource | None = None,
    gcs: GCSResource | None = None,
    poll_seconds: int | None = None,
    notification_seconds: int | None = None,
    connections: Mapping[str, Any] | None = None,
    declared_in: str = "",
    pool: str | None = None,
    automation: bool = True,
) -> dg.Definitions:
    """Return the assets, jobs, sensors, checks and resources of one pipeline.

    They load without credentials and without a network, and write nothing. Merge them with other
    definitions: ``dg.Definitions.merge(build_definitions(prefix="vision"), …)``.

    Args:
        prefix: The first part of every asset's key, as in ``vision/tasks``, and of the name of
            every job, sensor, resource and partition set, as in ``vision_load_tasks``. Empty: no
            prefix, as in the standalone project.
        group: The group of the assets.
        owners: The owners of the assets. Default: LS_PIPELINE_OWNERS, else ``team:labeling``.
        home: The folder of the ledger, of local copies and of the webhooks' secret. Each pipeline
            of a project needs its own. It may be a ``dagster.EnvVar``. Default: LS_PIPELINE_HOME,
            else ``.ls_pipeline`` in the working directory.
        database_url: The ledger's database; it may be a ``dagster.EnvVar``. Each pipeline needs its
            own. Default: a file in ``home`` if that is given, else LS_PIPELINE_DATABASE_URL, else
            a file in the default home.
        webhook_url: Where Label Studio reaches this pipeline's `ls-pipeline webhooks`; it may be a
            ``dagster.EnvVar``. Default: LS_PIPELINE_WEBHOOK_URL.
        label_studio: Label Studio. Default: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.
        s3: Amazon S3, or another store that speaks its protocol. Default: AWS_* variables, AWS's
            files, or the machine's role.
        gcs: Google Cloud Storage. Default: Google's default credentials.
        poll_seconds: The interval of the sensors that compare. Default: LS_PIPELINE_POLL_SECONDS,
            else 30.
        notification_seconds: The interval of the sensor of notifications. Default:
            LS_PIPELINE_NOTIFICATION_SECONDS, else 4.
        connections: Connections by name, in the form of ``connections.yaml``. A sensor's tick
            applies what changes in them from one deployment to the next, and nothing else, so
            that settings which people save in Dagster stay. A connection that is no longer
            declared is disabled. A ``label_config_file`` is relative to the working directory.
            Default: none; people add them in Dagster or the terminal.
        declared_in: Where ``connections`` are written, for people. Default: the call.
        pool: The concurrency pool of the runs that work on connections. Default: none.
        automation: False: the sensors are stopped until a person starts them in Dagster.

    Raises ``InvalidVariableError`` for a variable that can't be parsed, ``ConnectionsFileError``
    for connections that are not valid, and ``ValueError`` for the other arguments.

    """
    _check_arguments(
        {"poll_seconds": poll_seconds, "notification_seconds": notification_seconds},
        {
            "webhook_url": webhook_url,
            "label_studio.url": label_studio.url if label_studio else "",
            "s3.endpoint_url": s3.endpoint_url or "" if s3 else "",
        },
        database_url,
    )
    declared_in = declared_in or f"build_definitions(prefix={prefix!r})"
    pipeline = Pipeline(
        prefix,
        group,
        home,
        database_url,
        webhook_url,
        automation,
        read_declarations(connections or {}, Path.cwd(), declared_in),
        declared_in if connections is not None else "",
        pool,
    )
    polls = poll_seconds or environment.poll_seconds()
    jobs = _work_jobs(pipeline)
    return dg.Definitions(
        assets=_assets(pipeline, polls, owners),
        asset_checks=[labels_keep_coming(pipeline), connections_healthy(pipeline)],
        jobs=[*jobs, save_settings(pipeline, "source"), save_settings(pipeline, "target")],
        sensors=[
            objects(pipeline, "s3", polls),
            objects(pipeline, "gcs", polls),
            completions_sensor(pipeline, polls),
            training_data_sensor(pipeline, polls),
            notifications(
                pipeline, notification_seconds or environment.notification_seconds(), jobs
            ),
        ],
        resources=_resources(pipeline, label_studio, s3, gcs),
    )


def _check_arguments(
    seconds: Mapping[str, int | None], urls: Mapping[str, str], database_url: str
) -> None:
    """Raise ``ValueError`` with every argument that can't be used. An ``EnvVar`` is not read."""
    errors = [
        f"{name} must be at least 1, not {value}."
        for name, value in seconds.items()
        if value is not None and value < 1
    ]
    checks: list[partial[Any]] = [
        partial(environment.check_url, name, url) for name, url in urls.items() if url
    ]
    checks += [partial(parse_database_url, database_url)] if database_url else []
    errors += filter(None, map(_error_of, checks))
    if errors:
        raise ValueError(" ".join(errors))


def _error_of(check: partial[Any]) -> str:
    if isinstance(check.args[-1], dg.EnvVar):
        return ""
    try:
        check()
    except InvalidVariableError as error:
        return str(error)
    except LedgerError as error:
        return f"database_url: {error}"
    return ""


def work_assets(pipeline: Pipeline, poll_seconds: int) -> list[dg.AssetsDefinition]:
    """Return the assets that work on connections, in the order of their work."""
    return [tasks(pipeline), completions(pipeline), training_data(pipeline, poll_seconds)]


def _assets(
    pipeline: Pipeline, poll_seconds: int, owners: Sequence[str] | None
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    owners = environment.asset_owners() if owners is None else owners
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        settings(pipeline, "source"),
        settings(pipeline, "target"),
        *work_assets(pipeline, poll_seconds),
        *external_assets(pipeline),
    ]
    return list(dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), assets))


def _work_jobs(pipeline: Pipeline) -> list[Any]:
    def job(name: str, work: str, description: str) -> Any:
        selection = OwnLedger(pipeline, dg.AssetSelection.assets(pipeline.key(work)))
        return dg.define_asset_job(pipeline.name(name), selection, description=description)

    return [
        job("load_tasks", "tasks", "Loads what changed in a connection's source as tasks."),
        job(
            "export_completions",
            "completions",
            "Writes a connection's changed completions to its target.",
        ),
    ]


def _resources(
    pipeline: Pipeline,
    label_studio: LabelStudio | None,
    s3: S3Resource | None,
    gcs: GCSResource | None,
) -> dict[str, dg.ResourceDefinition]:
    """Return the resources, by name. Each opens its connections at its first use."""
    s3_cache = TTLCache(lambda: s3_buckets(_initialized(s3)))
    gcs_cache = TTLCache(lambda: gcs_buckets(_initialized(gcs)))
    resources = {
        "ledger": _ledger(pipeline),
        "progress": dg.ResourceDefinition.hardcoded_resource(
            SilentProgress(), "Progress bars of the command line. Dagster shows none."
        ),
        "s3": _cached(
            s3_cache.get, "Amazon S3: as configured, else AWS_* variables, files, or a role."
        ),
        "gcs": _cached(
            gcs_cache.get,
            "Google Cloud Storage: as configured, else with default credentials.",
        ),
        "queues": _cached(
            TTLCache(lambda: QueueOpener(s3_cache.get().session)).get,
            "SQS, with the credentials of S3; Pub/Sub, with Google's default credentials.",
        ),
        "label_studio": _cached(
            TTLCache(lambda: _initialized(label_studio) or LabelStudio()).get,
            "Label Studio: as configured, else LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, else the "
            "server that `start` runs.",
        ),
        "training_data": _cached(
            lambda: _training_data(pipeline).with_buckets(s3_cache.get(), gcs_cache.get()),
            "Opens snapshots, for assets that train models.",
        ),
    }
    return {pipeline.name(name): resource for name, resource in resources.items()}


Resource = TypeVar("Resource", bound="dg.ConfigurableResource[Any]")


def _initialized(resource: Resource | None) -> Resource | None:
    """Return a team's resource with the values of its ``EnvVar``."""
    return resource and resource.process_config_and_initialize()


def _training_data(pipeline: Pipeline) -> TrainingData:
    place = pipeline.place
    return TrainingData(prefix=pipeline.prefix, home=place.home, database_url=place.database)


def _ledger(pipeline: Pipeline) -> dg.ResourceDefinition:
    @dg.resource(description="The ledger: which object is which task, and which is exported.")
    def ledger(_context: dg.InitResourceContext) -> Iterator[Ledger]:
        opened = Ledger(pipeline.place.database_url)
        try:
            yield opened
        finally:
            opened.close()

    return ledger


def _cached(get: Callable[[], object], description: str) -> dg.ResourceDefinition:
    """Return a resource without a config schema. A tick finds the clients of the tick before."""
    return dg.ResourceDefinition(lambda _context: get(), description=description)
