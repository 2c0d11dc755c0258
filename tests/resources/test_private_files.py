"""What is written to this machine can be read only by its user."""

import os
import stat
import sys

import pytest

from ls_pipeline.cli.context import create_dagster_home
from ls_pipeline.cli.servers.server import Server
from ls_pipeline.resources.environment import (
    LabelStudioAddress,
    create_home,
    database_url,
    home,
    webhook_secret,
    write_local_label_studio,
)
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.local_copy import LocalCopy
from tests.contracts.memory_bucket import MemoryBucket


@pytest.fixture(autouse=True)
def generous_umask():
    """Let new files be readable and writable for everybody, unless who creates them objects."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_home_is_private():
    create_home()

    assert mode(home()) == "0o700"


def test_existing_home_is_closed_to_others():
    home().mkdir(mode=0o755)
    create_home()

    assert mode(home()) == "0o700"


def test_folders_that_exist_above_the_home_stay_as_they_are(environment, tmp_path):
    environment.setenv("LS_PIPELINE_HOME", str(tmp_path / "above" / "home"))
    (tmp_path / "above").mkdir(mode=0o755)
    create_home()

    assert (mode(tmp_path / "above"), mode(home())) == ("0o755", "0o700")


@pytest.mark.parametrize("place", ["home", "elsewhere"])
def test_ledger_is_private(tmp_path, place):
    file = home() / "ledger.db" if place == "home" else tmp_path / "ledger.db"
    ledger = Ledger(database_url() if place == "home" else f"sqlite:///{file}")
    with ledger.database.engine.begin() as db:
        db.exec_driver_sql("CREATE TABLE written (id INTEGER)")
        modes = {path.name: mode(path) for path in file.parent.glob("ledger.db*")}
    ledger.close()

    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], "0o600")
    if place == "home":
        assert mode(home()) == "0o700"


def test_folder_in_which_a_ledger_is_created_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    Ledger(f"sqlite:///{tmp_path}/ledger.db").close()

    assert mode(tmp_path) == "0o755"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_ledger_in_memory_creates_no_file(tmp_path, environment, url):
    environment.chdir(tmp_path)
    Ledger(url).close()

    assert list(tmp_path.iterdir()) == []


def test_dagsters_home_is_private():
    create_dagster_home()

    assert (mode(home()), mode(home() / "dagster")) == ("0o700", "0o700")


def test_dagsters_home_elsewhere_needs_no_home_of_ours(environment, tmp_path):
    environment.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    create_dagster_home()

    assert (mode(tmp_path / "dagster"), home().exists()) == ("0o700", False)


def test_secrets_of_the_home_are_private():
    webhook_secret()
    write_local_label_studio(LabelStudioAddress("http://127.0.0.1:8080", "key"))

    assert {file.name: mode(file) for file in home().iterdir()} == {
        "webhook-secret": "0o600",
        "label-studio.json": "0o600",
    }


def test_local_copy_is_private():
    bucket = MemoryBucket()
    bucket.put("a.json", b"{}", "application/json")
    copy = LocalCopy(home() / "copies" / "reviews" / "source")
    copy.update(bucket, [stored for page in bucket.pages() for stored in page])

    assert [mode(folder) for folder in (home(), home() / "copies", copy.root)] == ["0o700"] * 3


def test_files_of_servers_are_private(tmp_path):
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    made = tmp_path / "made"
    server = Server(
        "Server",
        [sys.executable, "-c", code, str(made)],
        tmp_path / "logs" / "server.log",
        is_up=lambda _server: made.exists(),
    )
    server.start()
    server.stop()

    assert (mode(made), mode(server.log)) == ("0o600", "0o600")
    assert mode(server.log.parent) == "0o700"
