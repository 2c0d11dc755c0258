"""Many connections in one deployment, two of which fail: `make load` for a minute."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickStatus
from dagster._serdes import serialize_value

from benchmarks.deployment import MISSING, SILENT, Shape, fill, source_buckets
from benchmarks.load import Observation, observe
from benchmarks.resource_samples import Databases
from benchmarks.traffic import Traffic
from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.resources.environment import database_url, home
from ls_pipeline.resources.ledger.ledger import Ledger

SHAPE = Shape(connections=6, objects=20, big=5000)

DAGSTER_TIMEOUT = 60.0
"""Seconds after which Dagster abandons a tick, including its own work."""

IDLE_TICK_BYTES = 3000
"""Bytes that Dagster may store of an idle tick, for any number of connections."""


@pytest.fixture
def deployment(live_environment, s3_server):
    """Fill a home; return its ledger and the URL of the source buckets."""
    live_environment.setenv("DAGSTER_HOME", str(home() / "dagster"))
    live_environment.setenv("LS_PIPELINE_POLL_SECONDS", "2")
    create_dagster_home()
    with source_buckets(SHAPE, latency=0.01) as url:
        ledger = Ledger(database_url())
        fill(ledger, SHAPE, url, s3_server.url)
        yield ledger, url
        ledger.close()


def stored_ticks():
    """Return the idle ticks, and the number of other ticks of each sensor."""
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
def test_deployment_keeps_up_with_two_failing_connections(deployment, tmp_path):
    ledger, url = deployment
    traffic = Traffic(ledger, SHAPE, url, (4.0, 8.0))
    observation = Observation(16.0, 4.0, tmp_path)
    samples, ticks = observe(home(), traffic, observation, Databases(home()), {})
    idle, busy = stored_ticks()
    logs = home() / "dagster" / "storage" / "__repository__"

    assert {change.kind for change in traffic.changes} == {"object", "label"}
    assert traffic.pending == []
    assert [tick.failure for tick in ticks if tick.failure] == []
    assert max(tick.seconds for tick in ticks) < DAGSTER_TIMEOUT / 2
    assert max(len(serialize_value(tick.tick_data)) for tick in idle) < IDLE_TICK_BYTES
    for sensor in ("s3_objects", "completions"):
        assert len(list(logs.glob(f"{sensor}/*.err"))) <= busy[sensor]
    assert {
        name: ledger.connection_ledger(name).objects.count_tasks() for name in (MISSING, SILENT)
    } == {
        MISSING: 0,
        SILENT: 0,
    }
    assert samples[-1].code_server > 0
