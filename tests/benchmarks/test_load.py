"""Many connections in one deployment, of which two fail: a minute of what `make load` does."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickStatus
from dagster._serdes import serialize_value

from benchmarks.deployment import MISSING, SILENT, Shape, fill, made_up_buckets
from benchmarks.load import Watch, watched
from benchmarks.resource_samples import Databases
from benchmarks.traffic import World
from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.resources.environment import database_url, home
from ls_pipeline.resources.ledger.ledger import Ledger

SHAPE = Shape(connections=6, objects=20, big=5000)

DAGSTER_GIVES_UP = 60.0
"""Seconds of a tick, what Dagster does beside it included."""

IDLE_TICK_BYTES = 3000
"""What Dagster may keep of a tick that found nothing, whatever the number of connections."""


@pytest.fixture
def deployment(world, s3_server):
    """Give a filled home, its ledger, and the address of the source buckets."""
    world.setenv("DAGSTER_HOME", str(home() / "dagster"))
    world.setenv("LS_PIPELINE_POLL_SECONDS", "2")
    create_dagster_home()
    with made_up_buckets(SHAPE, latency=0.01) as url:
        ledger = Ledger(database_url())
        fill(ledger, SHAPE, url, s3_server.url)
        yield ledger, url
        ledger.engine.dispose()


def ticks_kept():
    """Give the ticks that found nothing, and how many others each sensor had."""
    idle, busy = [], Counter()
    with dg.DagsterInstance.from_config(str(home() / "dagster")) as instance:
        for state in instance.all_instigator_state():
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id):
                if tick.status is TickStatus.SKIPPED:
                    idle.append(tick)
                else:
                    busy[state.instigator_name] += 1
    return idle, busy


@pytest.mark.server
def test_many_connections_of_which_two_fail_share_a_deployment(deployment, tmp_path):
    ledger, url = deployment
    living = World(ledger, SHAPE, url, (4.0, 8.0))
    samples, took = watched(home(), living, Watch(16.0, 4.0, tmp_path), Databases(home()), {})
    idle, busy = ticks_kept()
    logs = home() / "dagster" / "storage" / "__repository__"

    assert {one.what for one in living.changes} == {"object", "label"}
    assert living.waiting == []
    assert not any(one.failed for one in took)
    assert max(one.seconds for one in took) < DAGSTER_GIVES_UP / 2
    assert max(len(serialize_value(one.tick_data)) for one in idle) < IDLE_TICK_BYTES
    for sensor in ("s3_objects", "completions"):
        assert len(list(logs.glob(f"{sensor}/*.err"))) <= busy[sensor]
    assert {name: ledger.account(name).count_tasks() for name in (MISSING, SILENT)} == {
        MISSING: 0,
        SILENT: 0,
    }
    assert samples[-1].code_server > 0
