"""Runs whose process died: Dagster must not count them as running for ever."""

import time
from datetime import datetime, timedelta

import dagster as dg
import pytest

from ls_pipeline.sensors import dead_runs
from tests.bench import Bench
from tests.sensors.test_sensors import look, look_at_labels

STARTED, FAILED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger)


@pytest.fixture
def ten_minutes_later(monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(minutes=11)

    return lambda: monkeypatch.setattr(dead_runs, "datetime", Later)


def start(instance, run_id="dead", job="load_tasks", partition="reviews", **options):
    run = dg.DagsterRun(
        job, run_id, tags={"dagster/partition": partition}, status=STARTED, **options
    )
    instance.add_run(run)
    instance.report_engine_event("It began.", run)
    return lambda: instance.get_run_by_id(run_id).status


@pytest.mark.parametrize(
    "of",
    [
        {"job": "load_tasks"},
        {"job": "__ASSET_JOB", "asset_selection": frozenset({dg.AssetKey("training_data")})},
        {"job": "__ephemeral_asset_job__", "step_keys_to_execute": ["completions"]},
    ],
    ids=["job", "materialized", "sync"],
)
@pytest.mark.parametrize("tick", [look, look_at_labels])
def test_run_that_died_before_it_held_its_connection_is_reported(
    bench, instance, ten_minutes_later, of, tick
):
    status = start(instance, **of)
    tick(bench, instance)
    before = status()
    ten_minutes_later()
    tick(bench, instance)

    assert (before, status()) == (STARTED, FAILED)


def test_run_whose_lease_ran_out_is_reported(bench, instance, ten_minutes_later):
    status = start(instance)
    with bench.connection_ledger.acquire(run_id="dead"):
        ten_minutes_later()
        look(bench, instance)
        while_it_holds = status()
        bench.time.sleep(7200)
        look(bench, instance)

    assert (while_it_holds, status()) == (STARTED, FAILED)


def test_full_queue_of_dead_runs_is_emptied(bench, instance, ten_minutes_later):
    statuses = [start(instance, f"dead-{n}") for n in range(30)]
    ten_minutes_later()
    look(bench, instance)

    assert {status() for status in statuses} == {FAILED}


@pytest.mark.parametrize(
    "of",
    [
        {"job": "of_another_project"},
        {"partition": "2026-01-01"},
        {"job": "__ASSET_JOB", "asset_selection": frozenset({dg.AssetKey("report")})},
    ],
    ids=["job", "partition", "asset"],
)
def test_runs_of_others_are_left_alone(bench, instance, ten_minutes_later, of):
    status = start(instance, **of)
    ten_minutes_later()
    look(bench, instance)

    assert status() is STARTED


def test_run_that_logs_is_left_alone(bench, instance, monkeypatch):
    monkeypatch.setattr(dead_runs, "SILENCE", timedelta(seconds=1))
    status = start(instance)
    time.sleep(1.1)
    instance.report_engine_event("It goes on.", instance.get_run_by_id("dead"))
    look(bench, instance)
    before = status()
    time.sleep(1.1)
    look(bench, instance)

    assert (before, status()) == (STARTED, FAILED)
