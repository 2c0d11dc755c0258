"""The resource that opens snapshots for a team's own assets."""

import dagster as dg
import pytest

from ls_pipeline import TrainingData, training_data_dep
from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.project.build import build_definitions
from ls_pipeline.resources.progress import SilentProgress
from tests.assets.test_settings import Buckets
from tests.bench import RESULT, Bench

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]


class Scene:
    """A pipeline in memory, next to a model."""

    def __init__(self, folder, instance):
        self.bench = Bench(f"sqlite:///{folder}/ledger.db")
        self.bench.fill(["a"], labeled=["a"])
        self.bench.export()
        self.instance, self.opened = instance, []
        instance.add_dynamic_partitions("vision_connections", ["reviews"])
        buckets = Buckets(self.bench.bucket, self.bench.target)
        self.training_data = TrainingData(
            prefix="vision", database_url=self.bench.url, cache=str(folder / "cache")
        ).with_buckets(buckets, buckets)

        @dg.asset(deps=[training_data_dep("vision", "reviews")])
        def model(
            context: dg.AssetExecutionContext, vision_training_data: dg.ResourceParam[object]
        ):
            self.opened.append(vision_training_data.materialized(context, "reviews").name)

        pipeline = build_definitions(prefix="vision", database_url=self.bench.url)
        resources = {
            "vision_ledger": self.bench.ledger,
            "vision_s3": buckets,
            "vision_gcs": buckets,
            "vision_label_studio": self.bench.app,
            "vision_progress": SilentProgress(),
            "vision_training_data": dg.ResourceDefinition.hardcoded_resource(
                self.training_data  # Dagster would make it anew, without its buckets
            ),
        }
        definitions = dg.Definitions(assets=[*pipeline.assets, model], resources=resources)
        self.job = definitions.resolve_implicit_global_asset_job_def()

    def run(self, key, partition=None):
        """Materialize an asset; return the event."""
        key = dg.AssetKey(key)
        self.job.execute_in_process(
            instance=self.instance, asset_selection=[key], partition_key=partition
        )
        return self.instance.get_latest_materialization_event(key).asset_materialization

    def label(self):
        self.bench.put("b.json", {"text": "b"})
        self.bench.load()
        self.bench.app.annotate(self.bench.task_id("b.json"), RESULT)
        self.bench.export()


@pytest.fixture
def scene(tmp_path, instance):
    return Scene(tmp_path, instance)


def test_snapshot_is_the_data_version_of_the_asset(scene):
    event = scene.run(["vision", "training_data"], "reviews")

    assert event.tags["dagster/data_version"] == event.metadata["snapshot"].text
    assert event.tags["dagster/data_version"] == scene.training_data.snapshot("reviews").name


def test_run_without_changes_keeps_the_data_version(scene):
    first, second = (scene.run(["vision", "training_data"], "reviews") for _ in range(2))

    assert first.tags["dagster/data_version"] == second.tags["dagster/data_version"]


def test_run_of_a_disabled_connection_keeps_the_data_version(scene):
    first = scene.run(["vision", "training_data"], "reviews")
    connection = scene.bench.ledger.connection("reviews").model_copy(update={"enabled": False})
    scene.bench.ledger.save(connection, "Ada")
    second = scene.run(["vision", "training_data"], "reviews")

    assert first.tags["dagster/data_version"] == second.tags["dagster/data_version"]


def test_model_is_trained_on_the_snapshot_that_dagster_names(scene):
    scene.run(["vision", "training_data"], "reviews")
    first = scene.training_data.snapshot("reviews").name
    scene.label()
    scene.bench.snapshot()
    event = scene.run(["model"])

    assert scene.training_data.snapshot("reviews").name != first
    assert scene.opened == [first]
    assert scene.training_data.was_input_of(event, first)
    assert not scene.training_data.was_input_of(event, scene.training_data.snapshot("reviews").name)


def test_earlier_snapshot_opens_by_its_name(scene):
    scene.run(["vision", "training_data"], "reviews")
    first = scene.training_data.snapshot("reviews").name
    scene.label()
    scene.run(["vision", "training_data"], "reviews")
    pinned = scene.training_data.snapshot("reviews", first)

    assert (pinned.name, len(pinned.frame("results"))) == (first, 1)
    assert len(scene.training_data.snapshot("reviews").frame("results")) == 2


def test_connection_without_training_data_is_told(scene):
    with pytest.raises(SnapshotError, match=r"has no training data yet\. Materialize the asset"):
        scene.run(["model"])


def test_pipeline_has_the_resource_with_its_place(tmp_path):
    resources = build_definitions(prefix="vision", home=str(tmp_path)).resources
    names = ("vision_training_data",)
    with dg.build_resources({name: resources[name] for name in names}) as opened:
        training_data = opened.vision_training_data

    assert (training_data.prefix, training_data.home) == ("vision", str(tmp_path))
