"""The servers that `demo`, `start` and the tests run."""

from __future__ import annotations

import json
import secrets
import sys
from importlib.util import find_spec
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ls_pipeline.cli.servers.ports import HOST, WEBHOOKS_HOST, free_port
from ls_pipeline.cli.servers.server import OPENER, Server
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.private_files import create_private_folder, write_private_file

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION = "us-east-1"


def s3_server(logs: Path) -> Server:
    """Return moto's S3 server, which keeps objects in memory."""
    _require("moto", "flask")
    return Server(
        "S3 (moto)",
        [sys.executable, "-m", "moto.server", "-H", HOST, "-p", "{port}"],
        logs / "s3.log",
        clients={
            "AWS_ENDPOINT_URL": "{url}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": REGION,
        },
    )


def gcs_server(logs: Path) -> Server:
    """Return the GCS emulator, which keeps objects in memory."""
    _require("gcp_storage_emulator")
    emulator = [sys.executable, "-m", "ls_pipeline.cli.servers.gcs_emulator"]
    return Server(
        "GCS (emulator)",
        [*emulator, "--host", HOST, "--port", "{port}"],
        logs / "gcs.log",
        clients={"STORAGE_EMULATOR_HOST": "{url}", "GOOGLE_CLOUD_PROJECT": "demo"},
        health="/storage/v1/b?project=demo",
    )


def write_service_account(file: Path, gcs: Server) -> dict[str, str]:
    """Write a key with which Label Studio signs URLs of the emulator. Return its variables."""
    from cryptography.hazmat.primitives import serialization  # of the extra `demo`
    from cryptography.hazmat.primitives.asymmetric import rsa

    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "demo",
        "private_key": private_key.decode(),
        "client_email": "demo@demo.iam.gserviceaccount.com",
        "client_id": "demo",
        "token_uri": f"{gcs.url}/token",
    }
    write_private_file(file, json.dumps(key))
    return {"LABEL_STUDIO_GOOGLE_CREDENTIALS": str(file)}


USERNAME = "demo@example.com"

LOOPBACK = IPv4Network("127.0.0.0/8")
BANNED_NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", str(LOOPBACK), "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "233.252.0.0/24"),
    *("240.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "::ffff:0:0/96"),
    *("::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001:0000::/32"),
    *("2001:20::/28", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
)
"""The networks that Label Studio's webhooks may not call by default."""


def banned_networks_except(host: str) -> str:
    """Return `BANNED_NETWORKS` without one loopback address, as Label Studio's setting."""
    loopback = LOOPBACK.address_exclude(IPv4Network(host))
    others = (network for network in BANNED_NETWORKS if network != str(LOOPBACK))
    return ",".join([*others, *map(str, loopback)])


def label_studio_server(
    home: Path,
    logs: Path,
    buckets: Mapping[str, str],
    password: str = "",
    port: int | None = None,
) -> Server:
    """Return Label Studio with a SQLite database in ``home``.

    ``buckets`` are the variables with which it reaches the bucket servers. Its first start takes
    up to a minute, because it creates its database.
    """
    _require("label_studio")
    create_private_folder(home)
    token = _stored_secret(home / "token", "")
    script = Path(sys.executable).with_name("label-studio")
    port = port or free_port()
    environment = {
        "LABEL_STUDIO_HOST": f"http://{HOST}:{port}",  # for the links in its responses
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_USERNAME": USERNAME,
        "LABEL_STUDIO_PASSWORD": _stored_secret(home / "password", password),
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Otherwise everybody who can reach it may sign up.
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "0",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "0",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        # On this machine it may call only the webhook receiver.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": banned_networks_except(WEBHOOKS_HOST),
        # Label Studio accepts a private address as an endpoint only in this variable.
        **({"S3_ENDPOINT": buckets["AWS_ENDPOINT_URL"]} if "AWS_ENDPOINT_URL" in buckets else {}),
        **buckets,
    }
    return Server(
        "Label Studio",
        [str(script), "start", "--no-browser", "--internal-host", HOST, "--port", "{port}"],
        logs / "label-studio.log",
        environment=environment,
        clients={"LABEL_STUDIO_URL": "{url}", "LABEL_STUDIO_API_KEY": token},
        health="/health",
        patience=600,
        port=port,
    )


def dagster_server(
    logs: Path,
    environment: Mapping[str, str],
    module: str = "ls_pipeline.definitions",
    port: int | None = None,
) -> Server:
    """Return Dagster: webserver, daemon, and a code server for a module's definitions."""
    return Server(
        "Dagster",
        # Dagster's pages show everything. The log file only grows.
        [
            *(sys.executable, "-m", "dagster", "dev", "--log-level", "warning"),
            *("-m", module, "-h", HOST, "-p", "{port}"),
        ],
        logs / "dagster.log",
        environment={
            "DO_NOT_TRACK": "1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            # Probes run in many short threads. With an arena for each, memory grows for hours.
            "MALLOC_ARENA_MAX": "2",
            "LS_PIPELINE_GC_THRESHOLD": "20000",
            **environment,
        },
        is_up=daemons_are_healthy,
        patience=180,
        port=port or free_port(),
    )


def _stored_secret(file: Path, wanted: str) -> str:
    """Return the secret in a file. The first call creates it, and later starts reuse it."""
    if not file.exists():
        write_private_file(file, wanted or secrets.token_hex(16))
    return file.read_text()


def _require(*modules: str) -> None:
    if not all(map(find_spec, modules)):
        hint = "Run pip install 'ls-pipeline[demo]'."
        raise PipelineError("The demo's servers are not installed.", hint=hint)


def daemons_are_healthy(server: Server) -> bool:
    """Return whether the webserver answers and every required daemon is healthy.

    A heartbeat from before the launch comes from an earlier daemon with the same DAGSTER_HOME.
    """
    daemons = "allDaemonStatuses { required healthy lastHeartbeatTime }"
    query = urlencode({"query": f"{{ instance {{ daemonHealth {{ {daemons} }} }} }}"})
    try:
        with OPENER.open(f"{server.url}/graphql?{query}", timeout=5) as answer:
            health = json.load(answer)["data"]["instance"]["daemonHealth"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(
        daemon["healthy"] and daemon["lastHeartbeatTime"] > server.launched
        for daemon in health["allDaemonStatuses"]
        if daemon["required"]
    )
