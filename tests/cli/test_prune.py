"""Old runs leave Dagster's history. What shows the state of connections stays."""

import dagster as dg
import pytest
from click.testing import CliRunner

from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.cli.main import main
from tests.standalone import CONNECTIONS

pytestmark = pytest.mark.slow


@dg.asset(partitions_def=CONNECTIONS)
def some(context: dg.AssetExecutionContext):
    context.log.info("at work")


@pytest.fixture
def instance(tmp_path, environment):
    environment.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with dg.DagsterInstance.from_config(str(create_dagster_home())) as instance:
        instance.add_dynamic_partitions("connections", ["cats", "dogs"])
        yield instance


def run(instance, name):
    return dg.materialize([some], instance=instance, partition_key=name).run_id


def left(instance):
    return {run.run_id for run in instance.get_runs()}


def prune(*words):
    done = CliRunner().invoke(main, ["prune", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_old_runs_are_deleted_except_the_newest_of_each_connection(instance):
    old = [run(instance, "cats") for _ in range(2)]
    newest = {run(instance, "cats"), run(instance, "dogs")}

    assert "2 runs were deleted" in prune("--days", "0")
    assert left(instance) == newest
    assert [instance.all_logs(run_id) for run_id in old] == [[], []]
    assert instance.get_materialized_partitions(some.key) == {"cats", "dogs"}


def test_folder_without_a_dagster_home_is_refused(environment, tmp_path):
    environment.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    done = CliRunner().invoke(main, ["prune"])

    assert (done.exit_code, "There is no Dagster home in" in done.stderr) == (1, True)
    assert not (tmp_path / "nowhere").exists()


def test_recent_runs_stay(instance):
    runs = {run(instance, "cats") for _ in range(2)}

    assert "0 runs" in prune()
    assert left(instance) == runs


def test_run_that_has_not_ended_stays(instance):
    under_way = [
        dg.DagsterRun("job", run_id=str(number), status=dg.DagsterRunStatus.STARTED)
        for number in range(2)
    ]
    for started in under_way:
        instance.add_run(started)
    prune("--days", "0")

    assert left(instance) == {"0", "1"}
