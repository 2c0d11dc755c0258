"""The program ``ls-pipeline``, which imports the commands: Ctrl-C is quiet meanwhile, too."""

import os
import signal
import sys
from typing import Any

from ls_pipeline.cli import INTERRUPTED


def run() -> None:
    """Run the command line."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as for a job in the background
        signal.signal(signal.SIGINT, _end)  # imports have nothing to clean up
    from ls_pipeline.cli.main import main

    signal.signal(signal.SIGINT, before)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)  # Python ends its threads now


def _end(*_: Any) -> None:
    os._exit(INTERRUPTED)
