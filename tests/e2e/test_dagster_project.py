"""The example of a Dagster project: one label leads to one training run of its snapshot."""

import importlib
import json
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from ls_pipeline.domain.snapshot.manifest import Latest
from ls_pipeline.domain.snapshot.splits import assign_split
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.settings.params import TargetParams

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
]

PROJECT = Path(__file__).parents[2] / "examples/dagster_project"
CLASSIFIER, REPORT = dg.AssetKey("classifier"), dg.AssetKey("label_report")
SNAPSHOTS = dg.AssetKey(["labeling", "training_data"])


LABEL = [
    {"from_name": "topic", "to_name": "text", "type": "choices", "value": {"choices": ["Delivery"]}}
]


class Project:
    """The project's definitions, and what Dagster's daemon does with them."""

    def __init__(self, instance):
        self.defs = importlib.import_module("letters.definitions").defs()
        self.repository = self.defs.get_repository_def()
        self.instance, self.cursor = instance, None

    def tick(self, sensor):
        """Evaluate a sensor of the pipeline, and execute the runs that it requests."""
        resources = dict(self.defs.resources)
        with dg.build_sensor_context(instance=self.instance, resources=resources) as context:
            result = self.repository.get_sensor_def(sensor)._raw_fn(context)
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(
                request.partitions_def_name, request.partition_keys
            )
        job = self.repository.get_sensor_def(sensor).job_name
        return [
            self.repository.get_job(job)
            .execute_in_process(instance=self.instance, partition_key=request.partition_key)
            .success
            for request in result.run_requests
        ]

    def automate(self):
        """Evaluate the conditions, and execute what they request; return it."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        requested = [
            (key, partition)
            for key in (SNAPSHOTS, CLASSIFIER, REPORT)
            for partition in result.get_requested_partitions(key)
        ]
        job = self.defs.resolve_implicit_global_asset_job_def()
        for key, partition in requested:
            assert job.execute_in_process(
                instance=self.instance, asset_selection=[key], partition_key=partition
            ).success
        return requested


@pytest.fixture
def project(stage, environment, tmp_path):
    environment.syspath_prepend(str(PROJECT / "src"))
    environment.setenv("LETTERS_BUCKET", stage.name("letters"))
    environment.setenv("LABELS_BUCKET", stage.name("labels"))
    environment.setenv("MODELS", str(tmp_path / "models"))
    with dg.instance_for_test() as instance:
        yield Project(instance)
    for name in [name for name in sys.modules if name.partition(".")[0] == "letters"]:
        del sys.modules[name]


def test_one_label_leads_to_one_training_run(stage, project, tmp_path):
    source, target = stage.s3("letters"), stage.s3("labels")
    rule = TargetParams().split_rule
    number = next(
        n for n in range(99) if assign_split(source.uri(f"letters/{n}.json"), rule) == "train"
    )
    body = json.dumps({"text": "My parcel is late."}).encode()
    source.put(f"letters/{number}.json", body, "application/json")
    before = project.automate()
    loaded = project.tick("labeling_s3_objects")
    app = LabelStudio()
    project_id = app.find_project("Topics of letters").id
    (task,) = app.task_states(project_id)
    app.api.json("POST", f"api/tasks/{task.id}/annotations/", json={"result": LABEL})
    exported = []
    deadline = time.monotonic() + 60
    while not exported and time.monotonic() < deadline:
        exported = project.tick("labeling_completions")
    requested = [project.automate() for _ in range(4)]

    assert (before, loaded, exported) == ([], [True], [True])
    assert requested == [[(SNAPSHOTS, "letters")], [(CLASSIFIER, None), (REPORT, None)], [], []]

    event = project.instance.get_latest_materialization_event(CLASSIFIER)
    latest = Latest.model_validate_json(target.get("letters/training_data/latest.json"))
    metadata = event.asset_materialization.metadata
    (check,) = project.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(CLASSIFIER, "trained_on_its_input")]
    ).values()

    assert (metadata["snapshot"].value, metadata["texts"].value) == (latest.snapshot, 1)
    assert check.event.asset_check_evaluation.passed
    assert (tmp_path / "models" / f"{latest.snapshot}.pickle").exists()
