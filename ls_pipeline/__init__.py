"""Label Studio's cloud storage, rebuilt as a Dagster project."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ls_pipeline.domain.errors import BucketError, PipelineError, SnapshotError
    from ls_pipeline.project.build import build_definitions
    from ls_pipeline.project.component import LabelingComponent
    from ls_pipeline.project.conditions import (
        connection_partitions,
        new_labels,
        new_snapshot,
        training_data_dep,
    )
    from ls_pipeline.project.training_data import TrainingData
    from ls_pipeline.reader import Snapshot, open_snapshot
    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.sensors.automation import automation_sensor

__all__ = [
    "BucketError",
    "LabelStudio",
    "LabelingComponent",
    "PipelineError",
    "Snapshot",
    "SnapshotError",
    "TrainingData",
    "automation_sensor",
    "build_definitions",
    "connection_partitions",
    "new_labels",
    "new_snapshot",
    "open_snapshot",
    "training_data_dep",
]

_MODULES = {
    "domain.errors": ("BucketError", "PipelineError", "SnapshotError"),
    "project.build": ("build_definitions",),
    "project.component": ("LabelingComponent",),
    "project.conditions": (
        "connection_partitions",
        "new_labels",
        "new_snapshot",
        "training_data_dep",
    ),
    "project.training_data": ("TrainingData",),
    "reader": ("Snapshot", "open_snapshot"),
    "resources.label_studio.app": ("LabelStudio",),
    "sensors.automation": ("automation_sensor",),
}


def __getattr__(name: str) -> Any:
    """Import at first use: a training job needs no Dagster, and most commands no reader."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"ls_pipeline.{module}"), name)
    raise AttributeError(f"module 'ls_pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
