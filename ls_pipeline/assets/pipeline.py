"""One pipeline in a Dagster project: the names of its definitions, and where its state is."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ls_pipeline.domain.errors import InvalidVariableError
from ls_pipeline.domain.text import without_secrets
from ls_pipeline.resources.environment import Place
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ls_pipeline.settings.declarations import Declaration

LEDGER = "ledger"
"""Metadata of the settings: where the ledger is."""

DEFAULT_LEDGER = "LS_PIPELINE_DATABASE_URL, else LS_PIPELINE_HOME, else .ls_pipeline"

WORK_OF_JOBS = {"load_tasks": "tasks", "export_completions": "completions"}
"""The work of a job whose runs name no assets."""


@dataclass(frozen=True)
class Pipeline:
    """The names, group and place of one pipeline; several may share a Dagster project.

    Names are given without the prefix, as the standalone project has them.
    """

    prefix: str = ""
    group: str = "labeling"
    home: str = ""
    """Empty: the environment's, as for the other places. It may be a ``dagster.EnvVar``."""
    database_url: str = ""
    webhook_url: str = ""
    automation: bool = True
    """False: sensors are stopped until a person starts them in Dagster."""
    declarations: Mapping[str, Declaration] = field(default_factory=dict, compare=False)
    declared_in: str = ""
    pool: str | None = None
    """The concurrency pool of the runs that work on connections."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([A-Za-z][A-Za-z0-9_]*)?", self.prefix):
            raise ValueError(
                f"prefix {self.prefix!r} must have letters, digits and _, and begin with a letter"
            )

    def key(self, asset: str) -> dg.AssetKey:
        """Return the key of an asset."""
        return dg.AssetKey([self.prefix, asset] if self.prefix else [asset])

    def name(self, name: str) -> str:
        """Return the name of a job, sensor, resource or partition set."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def names(self, *names: str) -> set[str]:
        return set(map(self.name, names))

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """The partitions of every asset: one for each connection."""
        return dg.DynamicPartitionsDefinition(name=self.name("connections"))

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """The status of sensors that a person neither started nor stopped."""
        status = dg.DefaultSensorStatus
        return status.RUNNING if self.automation else status.STOPPED

    def checks(self, specs: Iterable[dg.AssetCheckSpec]) -> list[dg.AssetCheckSpec]:
        """Return specs of checks on the assets of this pipeline, for each connection."""
        with warnings.catch_warnings():
            # Dagster calls partitions of checks a preview. Without them it shows the newest result
            # alone, whichever connection it is of, and none if runs overlapped.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return [
                dg.AssetCheckSpec(
                    spec.name,
                    asset=self.check(spec.key).asset_key,
                    description=spec.description,
                    blocking=spec.blocking,
                    partitions_def=self.partitions,
                )
                for spec in specs
            ]

    def check(self, key: dg.AssetCheckKey) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(self.key(key.asset_key.path[-1]), key.name)

    def works_of(self, run: dg.DagsterRun) -> set[str]:
        """Return what a run of this pipeline works on; nothing for another run."""
        for job, work in WORK_OF_JOBS.items():
            if run.job_name == self.name(job):
                return {work}
        keys = {work: self.key(work) for work in WORKS}
        if run.asset_selection:
            return {work for work, key in keys.items() if key in run.asset_selection}
        steps = set(run.step_keys_to_execute or ())
        return {work for work, key in keys.items() if key.to_python_identifier() in steps}

    @property
    def ledger(self) -> str:
        """Where the ledger is, for people: without secrets, and with the name of an ``EnvVar``.

        Two pipelines with equal ones share a ledger.
        """
        if self.database_url:
            return _shown_database(self.database_url)
        return _shown(self.home) if self.home else DEFAULT_LEDGER

    @property
    def place(self) -> Place:
        """Where the state is, as of now."""
        return Place(*map(_value, (self.home, self.database_url, self.webhook_url)))


def _value(given: str) -> str:
    if not isinstance(given, dg.EnvVar):
        return given
    if value := given.get_value():
        return value
    what = "is not set, and it says where a pipeline keeps its state."
    raise InvalidVariableError(given.env_var_name, what, hint="Set it, or name another place.")


def _shown(home: str) -> str:
    if isinstance(home, dg.EnvVar):
        return f"${home.env_var_name}"
    return str(Path(home).expanduser().absolute())


def _shown_database(url: str) -> str:
    if isinstance(url, dg.EnvVar):
        return f"${url.env_var_name}"
    shown = without_secrets(url)
    # Users and options may lead to different schemas of one database.
    return shown if shown == url else f"{shown} ({sha256(url.encode()).hexdigest()[:8]})"


class OwnLedger(dg.AssetSelection):
    """The assets of a job, in a project in which each pipeline has a ledger of its own."""

    def __init__(self, pipeline: Pipeline, selected: dg.AssetSelection) -> None:
        self.pipeline, self.selected = pipeline, selected

    def resolve_inner(self, asset_graph: Any, allow_missing: bool) -> Any:  # noqa: FBT001
        """Return the keys of the assets. Raises ``ValueError`` if pipelines share a ledger."""
        for key in asset_graph.get_all_asset_keys():
            ledger = asset_graph.get(key).metadata.get(LEDGER)
            own = self.pipeline.key(key.path[-1])
            if ledger and ledger.value == self.pipeline.ledger and key != own:
                first, second = sorted(each.path[0] for each in (own, key))
                raise ValueError(
                    f"The pipelines {first!r} and {second!r} have one ledger "
                    f"({ledger.value}): give each a home or a database_url of its own."
                )
        return self.selected.resolve(asset_graph, allow_missing=allow_missing)


STANDALONE = Pipeline()
"""The pipeline of ``ls_pipeline.definitions``, which the environment configures."""
