"""What a run does with the run before it that never released its connection."""

import dagster as dg
import pytest

from ls_pipeline.assets.run import connection_run
from ls_pipeline.domain.errors import LabelStudioUnavailableError
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from tests.bench import Bench
from tests.standalone import CONNECTIONS


@pytest.fixture
def bench(tmp_path):
    return Bench(f"sqlite:///{tmp_path}/ledger.db")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def start(instance, run_id):
    run = dg.DagsterRun("load_tasks", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)


def one_more(bench, instance, work="tasks"):
    context = dg.build_asset_context(partition_key=bench.name, instance=instance)
    return connection_run(context, bench.ledger, work)


def test_run_whose_lease_ran_out_counts_as_failed_once_another_has_taken_over(bench, instance):
    start(instance, "slept")
    with bench.connection_ledger.acquire(run_id="slept"):
        bench.time.sleep(LEASE_SECONDS + 1)
        with one_more(bench, instance):
            pass

    assert instance.get_run_by_id("slept").status is dg.DagsterRunStatus.FAILURE


def test_run_that_gave_its_connection_back_is_left_alone(bench, instance):
    start(instance, "ending")
    with bench.connection_ledger.acquire(run_id="ending"):
        pass
    with one_more(bench, instance):
        pass

    assert instance.get_run_by_id("ending").status is dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize("next_work", ["tasks", "completions"])
def test_runs_that_are_cut_off_again_and_again_wait_longer_each_time(bench, instance, next_work):
    waits, never_ending = [], []
    for number in range(3):
        start(instance, f"killed-{number}")
        never_ending += [bench.connection_ledger.acquire(run_id=f"killed-{number}")]
        never_ending[-1].__enter__()
        bench.time.sleep(7200)
        never_ending += [one_more(bench, instance, next_work)]
        never_ending[-1].__enter__()
        (status,) = bench.ledger.statuses()
        waits.append(status.health("tasks").retry_at - bench.time())
        bench.time.sleep(7200)

    assert waits == [30.0, 60.0, 120.0]
    assert status.health("completions").failures == 0


def test_run_that_comes_to_its_end_makes_up_for_the_one_before(bench, instance):
    start(instance, "killed")
    with bench.connection_ledger.acquire(run_id="killed"):
        bench.time.sleep(LEASE_SECONDS + 1)
        with one_more(bench, instance):
            (during,) = bench.ledger.statuses()
        (after,) = bench.ledger.statuses()

    assert during.health("tasks").failure == "The run before was cut off."
    assert (after.health("tasks").failures, after.health("tasks").failure) == (0, "")


def test_dagster_retries_no_run_that_the_ledger_backs_off_from(bench, tmp_path):
    with dg.instance_for_test(
        overrides={"run_retries": {"enabled": True, "max_retries": 2}}
    ) as instance:

        @dg.asset(partitions_def=CONNECTIONS)
        def tasks(context: dg.AssetExecutionContext):
            with connection_run(context, bench.ledger, "tasks"):
                raise LabelStudioUnavailableError("Label Studio does not answer.")

        instance.add_dynamic_partitions("connections", [bench.name])
        ended = dg.materialize(
            [tasks], partition_key=bench.name, instance=instance, raise_on_error=False
        )
        tags = instance.get_run_by_id(ended.run_id).tags

    assert not ended.success
    assert tags["dagster/will_retry"] == "false"
