"""Runs on several hosts, started by Celery; one of the hosts dies or sleeps."""

import signal
import sys

import dagster as dg
import pytest
from dagster._core.launcher import LaunchRunContext

from ls_pipeline.assets.partitions import PARTITION_TAG
from ls_pipeline.cli.servers.local_servers import REGION
from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import running
from ls_pipeline.resources.ledger.lease import run_of
from tests.hosts.cluster import ROOT, Cluster, Load, wait_for
from tests.redis import NoRedis, redis

pytestmark = [pytest.mark.server, pytest.mark.skipif(sys.platform == "win32", reason="no signals")]


@pytest.fixture(scope="module")
def outside(tmp_path_factory, postgresql_server, label_studio_server, s3_server):
    """Return the environment that every service and host needs, and nothing else."""
    folder = tmp_path_factory.mktemp("redis")
    try:
        with redis(folder) as broker:
            postgresql_server.sql("CREATE DATABASE dagster")
            with postgresql_server.database() as ledger:
                yield {
                    **s3_server.client_environment,
                    **label_studio_server.client_environment,
                    "AWS_DEFAULT_REGION": REGION,
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "CELERY_BROKER_URL": broker,
                    "CELERY_RESULT_BACKEND": broker,
                    "DAGSTER_POSTGRES_HOST": HOST,
                    "DAGSTER_POSTGRES_PORT": str(postgresql_server.server.port),
                    "DAGSTER_POSTGRES_USER": "ledger",
                    "DAGSTER_POSTGRES_PASSWORD": postgresql_server.password,
                    "DAGSTER_DISABLE_TELEMETRY": "1",
                    "DO_NOT_TRACK": "1",
                    "LS_PIPELINE_DATABASE_URL": ledger,
                    "LS_PIPELINE_POLL_SECONDS": "4",
                    "NO_GCE_CHECK": "true",
                    "PYTHONPATH": str(ROOT),
                }
            postgresql_server.sql("DROP DATABASE IF EXISTS dagster WITH (FORCE)")
    except NoRedis as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def cluster(request, outside, tmp_path_factory):
    """Run services and hosts; the hosts wait for work."""
    hosts = request.config.getoption("--hosts")
    lease = request.config.getoption("--host-lease")
    cluster = Cluster(
        tmp_path_factory.mktemp("cluster"),
        {**outside, "LEASE_SECONDS": str(lease), "LS_PIPELINE_RUNS_AT_ONCE": str(hosts)},
    )
    code = cluster.code_server()
    with cluster.running_hosts(hosts), running([code]), running([cluster.daemon(code)]):
        cluster.await_hosts()
        yield cluster


@pytest.fixture
def instance(cluster, live_environment, tmp_path):
    """Return Dagster's instance, and point this process's clients at the hosts' servers."""
    for name, value in cluster.environment.items():
        live_environment.setenv(name, value)
    with dg.DagsterInstance.from_config(str(cluster.folder / "code")) as instance:
        yield instance
    cluster.wake()


@pytest.fixture
def shape(request):
    """Return the number of connections, and of objects in each."""
    return [request.config.getoption(f"--host-{name}") for name in ("connections", "objects")]


def test_each_object_is_one_task_though_a_host_died_in_mid_run(cluster, instance, shape):
    load = Load(cluster, *shape)
    host, _, holder = load.catch_in_mid_run()
    cluster.kill(host)
    load.await_end()

    assert load.origins() == load.expected()
    assert instance.get_run_by_id(run_of(holder)).status is dg.DagsterRunStatus.FAILURE
    assert all(host.says("succeeded in") for host in cluster.hosts.values())


def test_host_that_sleeps_past_its_lease_and_wakes_doubles_nothing(cluster, instance):
    load = Load(cluster, 3, 40)
    host, ledger, holder = load.catch_in_mid_run()
    ended = host.says("succeeded in")
    wait_for(lambda: load.is_done(ledger))
    host.signal(signal.SIGCONT)
    wait_for(lambda: host.says("succeeded in") > ended)
    load.await_end()

    assert load.origins() == load.expected()
    assert instance.get_run_by_id(run_of(holder)).status is dg.DagsterRunStatus.FAILURE


def test_run_that_dagster_launches_twice_doubles_nothing(cluster, instance):
    """As in https://github.com/dagster-io/dagster/issues/33962, and both begin at once."""
    cluster.sleep()
    load = Load(cluster, 1, 40)
    starting = [dg.DagsterRunStatus.STARTING]
    select = dg.RunsFilter(tags={PARTITION_TAG: load.names[0]}, statuses=starting)
    (run,) = wait_for(lambda: instance.get_runs(select), pause=0.01)
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    cluster.wake()
    wait_for(lambda: len(processes_of(instance, run)) == 2)
    load.await_end()

    assert load.origins() == load.expected()


def processes_of(instance, run):
    """Return the messages of the processes that started a run."""
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    return [message for message in messages if message.startswith("Started process for run")]
