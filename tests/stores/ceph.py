"""Ceph with its RADOS Gateway on one machine: one monitor, manager and OSD, objects in memory.

Run as ``python -m tests.stores.ceph FOLDER PORT``. It needs the packages that ``scripts/stores``
installs.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

from ls_pipeline.cli.servers.ports import HOST, free_port
from ls_pipeline.cli.servers.server import Server

CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = {monitor}
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/log/$name.log
mon data = {folder}/mon
mgr data = {folder}/mgr
mgr initial modules =
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
[client.rgw]
rgw data = {folder}/rgw
ms mon client mode = crc
auth client required = none
rgw frontends = beast endpoint={host}:{port}
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 64
rgw dynamic resharding = false
"""

USER = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret"}


def ceph_server(folder, logs):
    """Return Ceph, which keeps its state in a folder; it starts in a quarter of a minute."""
    return Server(
        "Ceph",
        [sys.executable, "-m", "tests.stores.ceph", str(folder), "{port}"],
        logs / "ceph.log",
        environment={"PYTHONPATH": str(Path(__file__).parents[2])},
        clients={"AWS_ENDPOINT_URL": "{url}", **USER, "AWS_DEFAULT_REGION": "us-east-1"},
        patience=120,
    )


def serve(folder, port):
    """Serve until the process ends; its children end with it."""
    for name in ("mon", "mgr", "osd", "rgw", "run", "log"):
        (folder / name).mkdir(parents=True)
    cluster, monitor = str(uuid.uuid4()), f"[v2:{HOST}:{free_port()},v1:{HOST}:{free_port()}]"
    file = folder / "ceph.conf"
    file.write_text(
        CONFIGURATION.format(cluster=cluster, monitor=monitor, folder=folder, host=HOST, port=port)
    )

    def start(program, *arguments):
        return subprocess.Popen([program, "-c", str(file), *arguments, "-f"])

    def run(program, *arguments):
        subprocess.run([program, "-c", str(file), *arguments], check=True)

    monitors = str(folder / "monitors")
    run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", monitor, monitors)
    run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)
    start("ceph-mon", "-i", "a")
    run("ceph", "--connect-timeout", "60", "mon", "stat")
    start("ceph-mgr", "-i", "x")
    disk = str(uuid.uuid4())
    run("ceph", "osd", "new", disk)
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
    start("ceph-osd", "-i", "0")
    keys = [f"--access-key={USER['AWS_ACCESS_KEY_ID']}"]
    keys += [f"--secret-key={USER['AWS_SECRET_ACCESS_KEY']}"]
    names = ["--uid=tests", "--display-name=tests"]
    run("radosgw-admin", "-n", "client.rgw", "user", "create", *names, *keys)
    start("radosgw", "-n", "client.rgw").wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
