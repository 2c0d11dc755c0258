"""A host of the tests' own: a name, process ids, and a disk that no other host sees.

On Linux, namespaces provide all of that. If they are refused, a host is a group of processes with
a home of its own, and the tests' header says so.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from contextlib import suppress

AS_ROOT = ["unshare", "--pid", "--uts", "--mount", "--fork", "--kill-child", "--mount-proc"]
AS_ANYBODY = [*AS_ROOT, "--user", "--map-root-user"]
WITH_US = ["setpriv", "--pdeathsig", "KILL"]
"""A host ends with the tests, even if they are killed."""

MOVE_IN = """
set -e
hostname "$1"
mount --bind "$2/$1" "$2/disk"
mount -o remount,ro,bind "$2/disk"
mount -t tmpfs none "$2/disk/tmp"
mount -t tmpfs none "$2/$1"
cd "$2/disk"
shift 2
exec "$@"
"""
"""The disk is read-only, except for temporary files: a run must need nothing on it."""


@functools.cache
def namespaces():
    """Return the command that makes a host's namespaces; empty if that is refused."""
    for command in (AS_ROOT, AS_ANYBODY):
        tried = [*WITH_US, *command, "sh", "-c", "hostname host && mount -t tmpfs none /tmp"]
        if all(map(shutil.which, ("setpriv", "unshare"))):
            done = subprocess.run(tried, capture_output=True, check=False)
            if done.returncode == 0:
                return [*WITH_US, *command]
    return []


class Host:
    """One host, and the program that runs on it; its folder is among those of all hosts."""

    def __init__(self, name, hosts, files):
        self.name, self.hosts = name, hosts
        self.log = hosts / f"{name}.log"
        own = hosts / name
        (own / "tmp").mkdir(parents=True)
        (hosts / "disk").mkdir(exist_ok=True)
        for file in files:
            shutil.copy(file, own)
        self.disk = hosts / "disk" if namespaces() else own
        self.process = None

    def start(self, command, environment):
        moved = []
        if namespaces():
            moved = [*namespaces(), "sh", "-c", MOVE_IN, "sh", self.name, str(self.hosts)]
        homes = {"HOME": self.disk, "TMPDIR": self.disk / "tmp", "DAGSTER_HOME": self.disk}
        homes["LS_PIPELINE_HOME"] = self.disk / "home"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*moved, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, **{name: str(place) for name, place in homes.items()}},
                start_new_session=True,
            )

    def says(self, what):
        """Count how often a text is in its log."""
        return self.log.read_text(errors="replace").count(what)

    def holds(self, holder):
        """Return whether a lease's holder is on this host."""
        if namespaces():
            return holder.startswith(f"{self.name}-")
        with suppress(ProcessLookupError):
            return os.getpgid(int(holder.split("/")[-2])) == self.process.pid
        return False

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        """End it as a power cut does."""
        self.signal(signal.SIGKILL)
        self.process.wait(30)
