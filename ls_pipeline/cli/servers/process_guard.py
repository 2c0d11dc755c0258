"""Runs a command until standard input closes.

``python -m ls_pipeline.cli.servers.process_guard COMMAND…`` starts the command in a new process
group, and ends the whole group when standard input closes. The parent closes it to stop the
command. If the parent is killed, the kernel closes it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


def main() -> int:
    """Run the command, and return its exit code."""
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True) as child:
        threading.Thread(target=_end_with_stdin, args=(child.pid,), daemon=True).start()
        code = child.wait()
    _signal(child.pid, signal.SIGKILL)  # children that the command left
    return code


def _end_with_stdin(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # a lock on sys.stdin would abort the exit
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(GRACE)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
