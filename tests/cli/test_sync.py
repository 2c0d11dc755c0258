"""How `ls-pipeline sync` ends on a signal."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.settings.validation import build_connection

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sync_stopped_in_the_background_starts_no_other_run(environment, number):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        environment.setenv(name, "us-east-1")
    ledger = Ledger(database_url())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("cats", "dogs"):
            source = {"type": "s3", "path": name, "params": {"endpoint_url": endpoint}}
            ledger.save(build_connection(name, source=source, target=None, project=name), "test")
        command = [Path(sys.executable).with_name("ls-pipeline"), "sync"]
        with subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" INT; exec "$0" "$@"', *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as background:
            try:
                link, _ = silent.accept()
                with link:
                    background.send_signal(number)
                    shown = background.communicate(timeout=60)
            finally:
                background.kill()

    assert (background.returncode, shown[0]) == (1, "")
    assert "Aborted!" in shown[1]
    assert ledger.connection_ledger("cats").held_by() == ""
