"""Runs whose process died: Dagster must not count them as running for ever."""

import subprocess
import sys
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
def later(monkeypatch):
    """Return a function that lets the sensors see a time some minutes ahead."""

    def set_ahead(minutes=2):
        class Later(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(minutes=minutes)

        monkeypatch.setattr(dead_runs, "datetime", Later)

    return set_ahead


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
def test_run_that_died_before_it_held_its_connection_is_reported(bench, instance, later, of, tick):
    status = start(instance, **of)
    tick(bench, instance)
    before = status()
    later()
    tick(bench, instance)

    assert (before, status()) == (STARTED, FAILED)


@pytest.mark.parametrize("removed", [False, True], ids=["in use", "removed"])
def test_run_whose_heartbeat_stopped_is_reported(bench, instance, later, removed):
    status = start(instance)
    later()
    with bench.ledger.heartbeats.of("dead", seconds=0.0):
        if removed:
            bench.ledger.remove(bench.name)
        look(bench, instance)
        while_it_lives = status()
        bench.time.sleep(60)
        look(bench, instance)

    assert (while_it_lives, status()) == (STARTED, FAILED)


def test_run_of_a_killed_process_is_reported_at_once(bench, instance):
    status = start(instance)
    script = (
        "import os, sys; from ls_pipeline.resources.ledger.ledger import Ledger\n"
        "beats = Ledger(sys.argv[1]).heartbeats.of('dead', 60)\n"
        "beats.__enter__(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, bench.url], check=False)
    look(bench, instance)

    assert status() is FAILED


def test_run_that_waits_for_its_connection_is_left_alone(bench, instance, later):
    status = start(instance)
    with bench.connection_ledger.acquire(), bench.ledger.heartbeats.of("dead", seconds=60):
        later()
        look(bench, instance)

    assert status() is STARTED


def test_terminated_run_without_a_process_is_reported(bench, instance, later):
    status = start(instance)
    instance.report_run_canceling(instance.get_run_by_id("dead"))
    later()
    look(bench, instance)

    assert status() is dg.DagsterRunStatus.CANCELED


def test_full_queue_of_dead_runs_is_emptied(bench, instance, later):
    statuses = [start(instance, f"dead-{n}") for n in range(30)]
    later()
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
def test_runs_of_others_are_left_alone(bench, instance, later, of):
    status = start(instance, **of)
    later()
    look(bench, instance)

    assert status() is STARTED


def test_run_that_logs_is_left_alone(bench, instance, later):
    status = start(instance)
    in_two_minutes = time.time() + 120
    instance.handle_new_event(dg.EventLogEntry(None, "info", "It goes on.", "dead", in_two_minutes))
    later(minutes=2)
    look(bench, instance)
    before = status()
    later(minutes=6)
    look(bench, instance)

    assert (before, status()) == (STARTED, FAILED)
