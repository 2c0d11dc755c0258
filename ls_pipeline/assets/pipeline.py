"""One pipeline in a Dagster project: the names of its definitions, and where its state is."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.resources.environment import Place
from ls_pipeline.resources.ledger.records import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ls_pipeline.settings.declarations import Declaration

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
    def place(self) -> Place:
        """Where the state is, as of now."""
        return Place(*map(_value, (self.home, self.database_url, self.webhook_url)))


def _value(given: str) -> str:
    return (given.get_value() or "") if isinstance(given, dg.EnvVar) else given


STANDALONE = Pipeline()
"""The pipeline of ``ls_pipeline.definitions``, which the environment configures."""
