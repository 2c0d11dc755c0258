"""When a team's own asset is due: after a new snapshot, or after enough new labels."""

import dagster as dg
import pytest

from ls_pipeline import (
    automation_sensor,
    connection_partitions,
    new_labels,
    new_snapshot,
    training_data_dep,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"
)

UPSTREAM = dg.AssetKey(["vision", "training_data"])
PARTITIONS = connection_partitions("vision")
SNAPSHOTS = dg.AssetSpec(UPSTREAM, partitions_def=PARTITIONS)


def trained(condition, connection=""):
    """Return definitions with a model of one connection, or of each."""

    @dg.asset(
        deps=[training_data_dep("vision", connection)],
        partitions_def=None if connection else PARTITIONS,
        automation_condition=condition,
    )
    def model():
        pass

    return dg.Definitions(assets=[SNAPSHOTS, model])


@pytest.fixture
def publish(instance):
    """Return a function that reports a snapshot, as a run of training_data does."""
    instance.add_dynamic_partitions("vision_connections", ["cats", "dogs"])

    def report(name, connection="cats", new=1, changed=0):
        event = dg.AssetMaterialization(
            UPSTREAM,
            partition=connection,
            metadata={"new": new, "changed": changed},
            tags={"dagster/data_version": name},
        )
        instance.report_runless_asset_event(event)

    return report


@pytest.fixture
def tick(instance):
    """Return a function that evaluates conditions, and runs what they request."""
    state = {}

    def evaluate(definitions):
        result = dg.evaluate_automation_conditions(
            definitions, instance, cursor=state.get("cursor")
        )
        state["cursor"] = result.cursor
        requested = result.get_requested_partitions(dg.AssetKey("model"))
        for partition in requested:
            event = dg.AssetMaterialization("model", partition=partition)
            instance.report_runless_asset_event(event)
        return requested

    return evaluate


@pytest.mark.parametrize(("connection", "expected"), [("", {"cats"}), ("cats", {None})])
def test_each_new_snapshot_asks_for_one_run(publish, tick, connection, expected):
    definitions = trained(new_snapshot("vision"), connection)
    before = tick(definitions)
    publish("1")
    first = [tick(definitions) for _ in range(3)]
    publish("2")

    assert (before, first, tick(definitions)) == (set(), [expected, set(), set()], expected)


def test_run_without_a_new_snapshot_asks_for_none(publish, tick):
    definitions = trained(new_snapshot("vision"))
    tick(definitions)
    publish("1")
    tick(definitions)
    publish("1", new=0)

    assert tick(definitions) == set()


def test_snapshot_of_another_connection_asks_for_none(publish, tick):
    definitions = trained(new_snapshot("vision"), "cats")
    tick(definitions)
    publish("1")
    tick(definitions)
    publish("1", "dogs")

    assert tick(definitions) == set()


def test_connection_that_does_not_exist_yet_asks_for_none(instance, tick):
    definitions = trained(new_snapshot("vision"), "birds")

    assert [tick(definitions) for _ in range(2)] == [set(), set()]


@pytest.mark.parametrize(("connection", "expected"), [("", {"cats"}), ("cats", {None})])
def test_enough_new_labels_ask_for_one_run(publish, tick, connection, expected):
    definitions = trained(new_labels("vision", 5, connection), connection)
    publish("1", new=3)
    few = tick(definitions)
    publish("2", new=1, changed=1)
    enough = [tick(definitions) for _ in range(2)]
    publish("3", new=4)

    assert (few, enough, tick(definitions)) == (set(), [expected, set()], set())


def test_labels_of_another_connection_do_not_count(publish, tick):
    definitions = trained(new_labels("vision", 5, "cats"), "cats")
    publish("1", new=4)
    publish("1", "dogs", new=9)

    assert tick(definitions) == set()


def test_sensor_for_conditions_in_python_runs_in_the_code_server():
    sensor = automation_sensor("models", dg.AssetSelection.all())

    assert (sensor.name, sensor._use_user_code_server) == ("models", True)


def test_condition_of_a_snapshot_is_dagsters_own():
    assert new_snapshot("vision").is_serializable
    assert not new_labels("vision", 1).is_serializable
