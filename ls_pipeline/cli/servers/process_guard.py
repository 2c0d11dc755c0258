"""Run a command for as long as somebody holds our standard input open.

``python -m ls_pipeline.cli.servers.process_guard COMMAND…`` gives it a process group of its own and
ends that whole group when standard input closes: when the parent asks for it, and also when
the parent is killed and can't ask.
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
"""Seconds between asking a group to end and making it."""


def main() -> int:
    """Run the command; give its exit code."""
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True) as child:
        threading.Thread(target=_end_with_stdin, args=(child.pid,), daemon=True).start()
        code = child.wait()
    _signal(child.pid, signal.SIGKILL)  # what the command left behind
    return code


def _end_with_stdin(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a lock held here would abort the exit
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(GRACE)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
