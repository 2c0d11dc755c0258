"""The example project under `dg dev`, and the workspace of this repository."""

import sys
import time
from pathlib import Path

import pytest

from ls_pipeline.cli.servers.local_servers import daemons_are_healthy
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.ledger import Ledger

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples/dagster_project"
PATIENCE = 180


def declared(url):
    """Return the names of the connections in a ledger, which may not exist yet."""
    try:
        ledger = Ledger(url)
        names = ledger.names()
        ledger.close()
    except LedgerError:
        return []
    return names


def test_dg_dev_ticks_and_applies_the_declared_connection(tmp_path):
    (tmp_path / "dagster").mkdir()
    settings = "telemetry: {enabled: false}\nsensors: {use_threads: true}\n"
    (tmp_path / "dagster/dagster.yaml").write_text(settings)
    program = str(Path(sys.executable).with_name("dg"))
    server = Server(
        "dg dev",
        [program, "dev", "--port", "{port}", "--target-path", str(PROJECT)],
        tmp_path / "dg.log",
        environment={
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DG_CLI_CONFIG": str(tmp_path / "dg.toml"),
            "LS_PIPELINE_HOME": str(tmp_path / "home"),
            "LS_PIPELINE_NOTIFICATION_SECONDS": "1",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{PROJECT / 'src'}",
        },
        is_up=daemons_are_healthy,
        patience=PATIENCE,
    )
    (tmp_path / "dg.toml").write_text("[cli.telemetry]\nenabled = false\n")
    url = f"sqlite:///{tmp_path}/home/ledger.db"
    with running([server]):
        deadline = time.monotonic() + PATIENCE
        while not declared(url) and time.monotonic() < deadline:
            time.sleep(0.5)
        names = declared(url)

    assert names == ["letters"]
