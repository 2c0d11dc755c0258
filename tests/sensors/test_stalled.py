"""A stuck queue and stuck sensors are shown as failures, until they go on."""

from datetime import datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ls_pipeline.resources.ledger.records import QUEUE, SENSORS
from ls_pipeline.resources.ledger.ticks import LATE_SECONDS, sensors_of
from ls_pipeline.sensors import stalled_runs
from ls_pipeline.sensors.tick import record_tick
from tests.bench import Bench
from tests.sensors.test_sensors import look, look_at_labels

QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED
REPOSITORY = RemoteRepositoryOrigin(InProcessCodeLocationOrigin(LoadableTargetOrigin()), "all")


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger)


@pytest.fixture(scope="module")
def stored_instance(tmp_path_factory):
    """Return an instance that stores which sensors are on; the one in memory does not."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def later(monkeypatch):
    """Let the sensors see a time some minutes ahead."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(minutes=11)

    return lambda: monkeypatch.setattr(stalled_runs, "datetime", Later)


def add_run(instance, run_id, status, job="load_tasks", partition="reviews"):
    tags, origin = {"dagster/partition": partition}, RemoteJobOrigin(REPOSITORY, job)
    run = dg.DagsterRun(job, run_id, tags=tags, status=status, remote_job_origin=origin)
    instance.add_run(run)
    return run


def failed_looks(bench):
    (status,) = bench.ledger.statuses()
    return {work: look.failure for work, look in status.failed_looks.items()}


@pytest.mark.parametrize("tick", [look, look_at_labels])
def test_run_that_is_not_started_is_shown_until_the_queue_moves(bench, instance, later, tick):
    run = add_run(instance, "waits", QUEUED)
    tick(bench, instance)
    at_first = failed_looks(bench)
    later()
    tick(bench, instance)
    stalled = failed_looks(bench)
    instance.report_run_canceled(run)
    tick(bench, instance)

    assert at_first == {}
    assert stalled[QUEUE].startswith("Dagster does not start run waits, nor any other.")
    assert failed_looks(bench) == {}


def test_queue_of_which_another_run_goes_on_is_only_long(bench, instance, later):
    add_run(instance, "waits", QUEUED)
    with bench.ledger.heartbeats.of("goes on", seconds=60):
        add_run(instance, "goes on", STARTED, partition="other")
        later()
        look(bench, instance)

    assert failed_looks(bench) == {}


def test_runs_of_others_do_not_move_the_queue(bench, instance, later):
    add_run(instance, "waits", QUEUED)
    add_run(instance, "other", STARTED, job="of_another_project", partition="x")
    later()
    look(bench, instance)

    assert QUEUE in failed_looks(bench)


def test_run_that_succeeds_shows_that_the_queue_moves(bench, instance, later):
    add_run(instance, "waits", QUEUED)
    later()
    look(bench, instance)
    bench.succeed("completions")

    assert failed_looks(bench) == {}


def test_sensor_whose_ticks_no_longer_succeed_is_shown_until_one_does(bench, stored_instance):
    for sensor in sensors_of(bench.connection_ledger.settings.in_force().connection):
        record_tick(stored_instance, bench.ledger, sensor, 30)
    began = bench.time.now
    bench.time.sleep(LATE_SECONDS + 1)
    record_tick(stored_instance, bench.ledger, "completions", 30)
    record_tick(stored_instance, bench.ledger, "training_data", 30)
    late = bench.ledger.statuses()[0].failed_looks
    record_tick(stored_instance, bench.ledger, "s3_objects", 30)

    assert late[SENSORS].since == began
    assert late[SENSORS].failure.startswith("No tick of the sensor s3_objects succeeds.")
    assert failed_looks(bench) == {}


def test_sensor_of_another_cloud_concerns_no_connection(bench, stored_instance):
    record_tick(stored_instance, bench.ledger, "gcs_objects", 30)
    bench.time.sleep(LATE_SECONDS + 1)

    assert failed_looks(bench) == {}


def test_long_interval_makes_no_sensor_late(bench, stored_instance):
    record_tick(stored_instance, bench.ledger, "s3_objects", 3600)
    bench.time.sleep(3 * 3600)

    assert failed_looks(bench) == {}


def test_sensor_that_a_person_switched_off_is_not_expected(bench, stored_instance):
    for status in (InstigatorStatus.RUNNING, InstigatorStatus.STOPPED):
        record_tick(stored_instance, bench.ledger, "s3_objects", 30)
        _set_status(stored_instance, "s3_objects", status)
        bench.time.sleep(LATE_SECONDS + 1)
        record_tick(stored_instance, bench.ledger, "completions", 30)
        assert (failed_looks(bench) == {}) is (status is InstigatorStatus.STOPPED)


def _set_status(instance, sensor, status):
    origin, data = RemoteInstigatorOrigin(REPOSITORY, sensor), SensorInstigatorData()
    state = InstigatorState(origin, InstigatorType.SENSOR, status, data)
    if instance.all_instigator_state():
        instance.update_instigator_state(state)
    else:
        instance.add_instigator_state(state)
