"""Who holds a lease, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from pathlib import Path


def holder(run_id: str = "") -> str:
    """Name this process, and this use of a lease: by Dagster's run if it is one's."""
    return f"{_machine()}/{os.getpid()}/{run_id or uuid.uuid4().hex[:8]}"


def run_of(who: str) -> str:
    """Give the id of the run that a lease's holder is; if it is none's, what no run is called."""
    return who.rpartition("/")[2]


def _machine() -> str:
    """Name what process ids mean something within: the host since its start, a PID namespace.

    Hosts that share a ledger may have the same name, and namespaces the same number.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    since = f"-{boot.read_text()[:8]}" if boot.is_file() else ""
    namespace = Path("/proc/self/ns/pid")
    inside = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}{since}{inside}"


def is_dead(who: str) -> bool:
    """Tell whether a lease's holder certainly lives no more; doubt counts as life."""
    machine, _, rest = who.partition("/")
    pid = rest.partition("/")[0]
    if machine != _machine() or not pid.isdigit() or sys.platform == "win32":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
