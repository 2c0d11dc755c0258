"""The definitions that Dagster loads."""

import gc
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ls_pipeline.cli.servers import local_servers
from ls_pipeline.definitions import defs
from ls_pipeline.domain.errors import InvalidVariableError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def repository():
    return defs().get_repository_def()


def test_definitions_load_without_credentials():
    dg.Definitions.validate_loadable(defs())


WATCHED_IMPORT = """
import gc, os
import dagster  # copies the whole environment for a subprocess

class Watched(dict):
    reads = set()

    def __getitem__(self, key):
        self.reads.add(os.environ.decodekey(key))
        return super().__getitem__(key)

os.environ._data = Watched(os.environ._data)
before = gc.get_threshold(), gc.get_freeze_count(), dict(os.environ._data)
import ls_pipeline.definitions as module

assert (gc.get_threshold(), gc.get_freeze_count(), dict(os.environ._data)) == before
print(*sorted(name for name in Watched.reads if name.startswith("LS_PIPELINE_")))
"""
VARIABLES = (
    "DATABASE_URL",
    "GC_THRESHOLD",
    "HOME",
    "NOTIFICATION_SECONDS",
    "OWNERS",
    "POLL_SECONDS",
    "WEBHOOK_SECRET",
    "WEBHOOK_URL",
)


@pytest.mark.slow
def test_importing_the_definitions_reads_and_changes_nothing(environment):
    for variable in VARIABLES:
        environment.setenv(f"LS_PIPELINE_{variable}", "garbage")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED_IMPORT],
        capture_output=True,
        text=True,
        check=True,
    )

    assert process.stdout == "\n"


def test_loading_the_definitions_leaves_the_garbage_collector_alone():
    before = gc.get_threshold(), gc.get_freeze_count()
    defs()

    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.mark.slow
def test_garbage_collector_is_tuned_if_the_environment_says_so(environment):
    environment.setenv("LS_PIPELINE_GC_THRESHOLD", "20000")
    script = (
        "import gc, ls_pipeline.definitions as module; module.defs(); "
        "assert gc.get_threshold()[0] == 20_000; assert gc.get_freeze_count() > 10_000"
    )

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_start_and_the_image_tune_the_garbage_collector(tmp_path):
    variables = local_servers.dagster_server(tmp_path, {}).environment

    assert variables["LS_PIPELINE_GC_THRESHOLD"] == "20000"
    assert "LS_PIPELINE_GC_THRESHOLD=20000" in (ROOT / "deploy/Dockerfile").read_text()


def test_variable_that_is_no_number_is_named(environment):
    environment.setenv("LS_PIPELINE_POLL_SECONDS", "soon")

    with pytest.raises(InvalidVariableError, match="LS_PIPELINE_POLL_SECONDS is 'soon'"):
        defs()


def test_owners_are_those_of_the_environment(environment):
    environment.setenv("LS_PIPELINE_OWNERS", "team:vision,me@example.com")
    graph = defs().get_repository_def().asset_graph
    owners = {tuple(graph.get(key).owners) for key in graph.get_all_asset_keys()}

    assert owners == {("team:vision", "me@example.com")}


@pytest.mark.slow
def test_loading_the_definitions_imports_no_cloud_client():
    script = (
        "import sys, ls_pipeline.definitions as d; d.defs(); "
        "heavy = {'boto3', 'google.cloud.storage', 'google.cloud.pubsub_v1', 'pandas', 'pyarrow', "
        "'label_studio_sdk'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_assets_are_one_chain(repository):
    graph = repository.asset_graph
    chain = {key.to_user_string(): graph.get(key).parent_keys for key in graph.get_all_asset_keys()}

    assert {name: {key.to_user_string() for key in keys} for name, keys in chain.items()} == {
        "source_settings": set(),
        "target_settings": set(),
        "source_bucket": set(),
        "tasks": {"source_settings", "source_bucket"},
        "labels": {"tasks"},
        "completions": {"target_settings", "labels"},
        "training_data": {"completions"},
        "target_bucket": {"completions", "training_data"},
    }


SENSORS = ("s3_objects", "gcs_objects", "completions", "training_data")


def test_sensors_run_at_the_intervals_of_the_environment(environment):
    environment.setenv("LS_PIPELINE_POLL_SECONDS", "7")
    environment.setenv("LS_PIPELINE_NOTIFICATION_SECONDS", "3")
    sensors = defs().get_repository_def().sensor_defs

    assert {
        (sensor.name, sensor.minimum_interval_seconds, sensor.default_status.value)
        for sensor in sensors
    } == {*((name, 7, "RUNNING") for name in SENSORS), ("notifications", 3, "RUNNING")}


def test_everything_has_owners_and_a_description(repository):
    graph = repository.asset_graph
    assets = [graph.get(key) for key in graph.get_all_asset_keys()]
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]

    assert {tuple(asset.owners) for asset in assets} == {("team:labeling",)}
    assert all(item.description for item in [*assets, *jobs, *repository.sensor_defs])


def test_workspace_names_the_definitions():
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())

    assert workspace == {"load_from": [{"python_module": "ls_pipeline.definitions"}]}
