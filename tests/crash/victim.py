"""A process that runs connections and is killed in a run: ``python -m tests.crash.victim``.

Reads a JSON object a line: ``{"name": …, "kill_at": 17 | null}``. Runs that connection in a child
process, which sends itself SIGKILL at step ``kill_at``. Answers ``{"pid": …}`` of the child at
once, so that others can kill it, too; at the end ``{"steps": …, "killed": …, "error": …}``.

A step is taken before and after everything that leaves the process: each send to a socket, each
receipt, each statement and commit of the ledger, each change of a file's name. The calls are not
listed, so a new call can't be forgotten.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.default import DefaultDialect

from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.engine import reconcile
from ls_pipeline.engine.context import RunContext
from ls_pipeline.engine.export import export_completions
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.engine.local_mirror import mark_mirror_stale, update_mirror
from ls_pipeline.engine.snapshot import write_snapshot
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.resources.s3.bucket import S3Buckets

if TYPE_CHECKING:
    from ls_pipeline.resources.ledger.connection import HeldConnection

reconcile.ARRIVAL_SECONDS = 1.0  # what arrives later must not be doubled either


class Steps:
    """Counts steps in all threads, and ends the process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.taken = kill_at, 0
        self._numbers = itertools.count(1)

    def take(self) -> None:
        self.taken = next(self._numbers)
        if self.taken == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

    def around(self, owner: Any, name: str) -> None:
        """Take a step before and after each call of a method."""
        call = getattr(owner, name)

        def stepped(*args: Any, **options: Any) -> Any:
            self.take()
            result = call(*args, **options)
            self.take()
            return result

        setattr(owner, name, stepped)

    def everywhere(self) -> None:
        for name in ("send", "sendall", "recv_into", "recv"):
            self.around(socket.socket, name)
        for name in ("do_execute", "do_executemany", "do_commit"):
            self.around(DefaultDialect, name)
        names = {"os.rename", "os.remove"}
        sys.addaudithook(lambda event, _args: self.take() if event in names else None)


def run_over(held: HeldConnection, side: str) -> RunContext | None:
    """Return a run over a connection's ``source`` or ``target``; None if it has none."""
    revision = held.settings.in_force()
    settings = getattr(revision.connection, side)
    if settings is None:
        return None
    bucket = (S3Buckets() if settings.cloud == "s3" else GCSBuckets()).bucket_of(settings)
    return RunContext(held, revision, bucket, LabelStudio(), SilentProgress())


def run_connection(name: str) -> None:
    """Load, export and write a snapshot, as the assets do."""
    with Ledger(database_url()).acquire(name, 5) as held:
        if run := run_over(held, "source"):
            mark_mirror_stale(run, run.source)
            load_tasks(run)
            update_mirror(run, run.source)
        if run := run_over(held, "target"):
            mark_mirror_stale(run, run.target)
            export_completions(run)
            write_snapshot(run)
            update_mirror(run, run.target)


def in_a_child(order: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.environ.update(order.get("environment", {}))
        steps = Steps(order["kill_at"])
        steps.everywhere()
        error = ""
        try:
            run_connection(order["name"])
        except PipelineError as failure:
            error = str(failure)
        except BaseException as failure:  # noqa: BLE001 - the test fails with it
            error = repr(failure)
        os.write(write, json.dumps({"steps": steps.taken, "error": error}).encode())
        os._exit(0)
    os.close(write)
    answer({"pid": child})
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed, **(json.loads(result) if result else {})}


def main() -> None:
    import boto3  # noqa: F401 - once, not in each child
    import dagster_aws.s3  # noqa: F401
    import dagster_gcp.gcs  # noqa: F401
    import google.cloud.storage.retry  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import ls_pipeline.resources.label_studio.session  # noqa: F401

    for line in sys.stdin:
        answer(in_a_child(json.loads(line)))


def answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
