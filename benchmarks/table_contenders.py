"""Contenders that load one large table, or the same rows as JSON Lines.

Each function sets up its work and returns a function that does it.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import (
    BUCKET,
    Result,
    count_tasks,
    label_studio_client,
    new_connection,
    new_project,
)
from benchmarks.load_contenders import load_run, new_source_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

    from ls_pipeline.resources.label_studio.app import LabelStudio
    from ls_pipeline.resources.ledger.connection import ConnectionLedger

GROUPS = 10
"""Row groups of a Parquet file."""

ROWS_AT_ONCE = 10_000
"""Lines that are written at once."""

WORDS = "The kettle works beautifully, though it came without its lid and on a Tuesday."


def fill_with_table(url: str, kind: str, rows: int) -> Callable[[], Result]:
    """Fill a folder with one table. This is setup, not a contender."""
    import boto3

    def work() -> Result:
        with tempfile.TemporaryFile() as file:
            WRITERS[kind](file, rows)
            size = file.tell()
            file.seek(0)
            key = f"{folder_of(kind, rows)}table.{kind}"
            boto3.client("s3", endpoint_url=url).upload_fileobj(file, BUCKET, key)
        return {"bytes": size}

    return work


def folder_of(kind: str, rows: int) -> str:
    """Return the folder of a table."""
    return f"tables/{kind}-{rows}/"


def _write_parquet(file: IO[bytes], rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(file, schema) as writer:  # type: ignore[no-untyped-call]
        for part in _parts(rows, -(-rows // GROUPS)):
            texts = [f"{number}: {WORDS}" for number in part]
            writer.write_table(pa.table({"id": part, "text": texts}, schema))


def _write_csv(file: IO[bytes], rows: int) -> None:
    file.write(b"id,text\n")
    for part in _parts(rows, ROWS_AT_ONCE):
        lines = (f'{number},"{number}: {WORDS}"\n' for number in part)
        file.write("".join(lines).encode())


def _write_jsonl(file: IO[bytes], rows: int) -> None:
    for part in _parts(rows, ROWS_AT_ONCE):
        tasks = ({"id": n, "text": f"{n}: {WORDS}"} for n in part)
        file.write("".join(json.dumps(task) + "\n" for task in tasks).encode())


def _parts(rows: int, most: int) -> Iterator[range]:
    return (range(begin, min(begin + most, rows)) for begin in range(0, rows, most))


WRITERS: dict[str, Callable[[IO[bytes], int], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}


class StoppingApp:
    """A Label Studio that kills its process once it has made that many tasks."""

    def __init__(self, app: LabelStudio, tasks: int) -> None:
        self._app, self._left = app, tasks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        made = self._app.import_tasks(project_id, tasks)
        self._left -= len(made)
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)  # before the ledger knows of these tasks
        return made


class AnsweringApp:
    """A Label Studio that makes no tasks, and answers as if it did."""

    def __init__(self, app: LabelStudio) -> None:
        self._app, self._made = app, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def highest_task_id(self, _project_id: int) -> int:
        return self._made

    def import_tasks(self, _project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        first, self._made = self._made + 1, self._made + len(tasks)
        return list(range(first, self._made + 1))


def load_table(url: str, kind: str, rows: int) -> Callable[[], Result]:
    """Load a table into an empty project."""
    return load_run(_connection(url, kind, rows), url)


def load_table_alone(url: str, kind: str, rows: int) -> Callable[[], Result]:
    """Do our part of a load: Label Studio answers, but makes no tasks."""
    from ls_pipeline.resources.label_studio.app import LabelStudio

    app: Any = AnsweringApp(LabelStudio())
    return load_run(_connection(url, kind, rows), url, app)


def continue_table(url: str, kind: str, rows: int) -> Callable[[], Result]:
    """Finish the load of a table whose process was killed after half of the rows."""
    from ls_pipeline.resources.label_studio.app import LabelStudio

    connection_ledger = _connection(url, kind, rows)
    connection_ledger.database.engine.dispose()  # no connection may be in two processes
    child = os.fork()
    if child == 0:
        app: Any = StoppingApp(LabelStudio(), rows // 2)
        load_run(connection_ledger, url, app)()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise ValueError("the load was not killed")
    groups = _counted_groups()
    work = load_run(connection_ledger, url)

    def finish() -> Result:
        return {**work(), "groups": len(groups)}

    return finish


def _counted_groups() -> list[int]:
    """Return a list to which each row group of Parquet is added once it is decoded."""
    import pyarrow.parquet as pq

    groups: list[int] = []
    table: Any = pq.ParquetFile
    decode = table.iter_batches

    def counted(*arguments: Any, **options: Any) -> Any:
        groups.extend(options["row_groups"])
        return decode(*arguments, **options)

    table.iter_batches = counted
    return groups


def label_studio_table_sync(url: str, kind: str, rows: int) -> Callable[[], Result]:
    """Let Label Studio sync a source storage with one table; tell how it ended."""
    del url  # it is in Label Studio's environment
    client = label_studio_client()
    project = new_project(client)
    storage = new_source_storage(client, project, folder_of(kind, rows))

    def work() -> Result:
        sync = client.post(f"/api/storages/s3/{storage}/sync").raise_for_status().json()
        tasks = count_tasks(client, project)
        return {"tasks": tasks, "status": sync["status"], "why": sync["traceback"] or ""}

    return work


def _connection(url: str, kind: str, rows: int) -> ConnectionLedger:
    params = {"prefix": folder_of(kind, rows), "endpoint_url": url}
    return new_connection({"type": "s3", "path": BUCKET, "params": params})
