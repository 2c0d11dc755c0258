"""OpenStack Swift behind its S3 API, in one process: one device and one replica.

Run as ``python -m tests.stores.swift FOLDER PORT``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server

SWIFT = """\
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = one
default = yes
"""

STORAGE = """\
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = {part}-server
[app:{part}-server]
use = egg:swift#{part}
recon_cache_path = {folder}
"""
"""The configuration of the account, container and object servers."""

PROXY = """\
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_bucket_listing = 10
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""

FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "bulk", "slo")
"""The filters of the proxy with their default configuration."""


def swift_server(folder, logs):
    """Return Swift, which keeps objects in a folder."""
    return Server(
        "Swift",
        [sys.executable, "-m", "tests.stores.swift", str(folder), "{port}"],
        logs / "swift.log",
        environment={"PYTHONPATH": str(Path(__file__).parents[2])},
        clients={
            "AWS_ENDPOINT_URL": "{url}",
            "AWS_ACCESS_KEY_ID": "test:tester",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        health="/healthcheck",
    )


def serve(folder, port):
    """Serve until the process ends."""
    import eventlet

    eventlet.monkey_patch()
    os.fsync = lambda _file: None
    from swift.common import utils, wsgi

    (folder / "devices/disk").mkdir(parents=True)
    sockets = {part: eventlet.listen((HOST, 0)) for part in ("account", "container", "object")}
    for part, socket in sockets.items():
        write_ring(folder / f"{part}.ring.gz", socket.getsockname()[1])
        (folder / f"{part}.conf").write_text(STORAGE.format(folder=folder, part=part))
    (folder / "swift.conf").write_text(SWIFT)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS)
    (folder / "proxy.conf").write_text(PROXY.format(folder=folder) + filters)
    sockets["proxy"] = eventlet.listen((HOST, port))
    utils.set_swift_dir(str(folder))
    utils.validate_configuration()
    apps = {name: wsgi.loadapp(str(folder / f"{name}.conf")) for name in sockets}
    threads = [eventlet.spawn(serve_app, sockets[name], apps[name]) for name in sockets]
    for thread in threads:
        thread.wait()


def write_ring(file, port):
    """Write where the one device of a server is."""
    from swift.common.ring import RingBuilder

    ring = RingBuilder(4, 1, 0)
    device = {"region": 1, "zone": 1, "device": "disk", "weight": 1.0}
    ring.add_dev({**device, "ip": HOST, "port": port})
    ring.rebalance()
    ring.get_ring().save(str(file))


def serve_app(socket, app):
    from eventlet import wsgi
    from swift.common.utils import NullLogger
    from swift.common.wsgi import SwiftHttpProtocol

    # Eventlet would write "Etag", which clients of S3 don't read.
    spelling = {"capitalize_response_headers": False}
    wsgi.server(socket, app, NullLogger(), protocol=SwiftHttpProtocol, **spelling)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
