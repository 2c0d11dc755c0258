"""What a deployment takes over time: memory, CPU, disk, and the durations of its ticks."""

from __future__ import annotations

import csv
import os
import time
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from benchmarks.processes import clock_ticks_in, process_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    import dagster as dg

COMMANDS = {
    "daemon": "dagster._daemon",
    "code_server": "api grpc",
    "webserver": "dagster_webserver",
    "start": "ls-pipeline start",
}
"""Words in the command line of each process that a sample has a field for."""


@dataclass(frozen=True)
class Sample:
    """The state at one moment: memory in MB, disk in bytes, and counts.

    ``at`` is the time, ``seconds`` the time since the first sample.
    """

    at: float
    seconds: float
    daemon: int
    code_server: int
    webserver: int
    start: int
    cpu_seconds: float
    """CPU seconds of all processes so far, except for runs that have ended."""
    ticks_bytes: int
    runs_bytes: int
    logs_bytes: int
    ledger_bytes: int
    runs: int
    ticks: int
    pending: int
    """Changes that have not arrived yet."""
    load: float
    """The machine's load average of the last minute."""


DAGSTER_STORAGE = """
storage:
  postgres:
    postgres_url: {url}
"""
"""Dagster's settings for a PostgreSQL."""


@dataclass(frozen=True)
class Databases:
    """The databases of a deployment: files in its home, or on a PostgreSQL server."""

    home: Path
    server: str = ""
    """``USER:PASSWORD@HOST:PORT``; empty: files."""

    def prepare(self, dagster_home: Path) -> None:
        """Create the databases ``ledger`` and ``dagster``, and configure Dagster and us."""
        if not self.server:
            return
        import psycopg

        with psycopg.connect(f"postgresql://{self.server}/postgres", autocommit=True) as db:
            db.execute("CREATE DATABASE ledger")
            db.execute("CREATE DATABASE dagster")
        with (dagster_home / "dagster.yaml").open("a", encoding="utf-8") as settings:
            settings.write(DAGSTER_STORAGE.format(url=f"postgresql://{self.server}/dagster"))
        os.environ.update(self.environment)

    @property
    def environment(self) -> dict[str, str]:
        if not self.server:
            return {}
        return {"LS_PIPELINE_DATABASE_URL": self._url("ledger")}

    def sizes(self) -> dict[str, int]:
        """Return the sizes in bytes, by the names of the fields of `Sample`."""
        dagster = self.home / "dagster"
        logs = {"logs_bytes": disk_bytes(dagster / "storage")}
        if not self.server:
            return logs | {
                "ticks_bytes": disk_bytes(dagster / "schedules"),
                "runs_bytes": disk_bytes(dagster / "history"),
                "ledger_bytes": sum(map(disk_bytes, self.home.glob("ledger.db*"))),
            }
        ticks = self._query("dagster", "SELECT pg_total_relation_size('job_ticks')")
        database_size = "SELECT pg_database_size(current_database())"
        return logs | {
            "ticks_bytes": ticks,
            "runs_bytes": self._query("dagster", database_size) - ticks,
            "ledger_bytes": self._query("ledger", database_size),
        }

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.server}/{database}"

    def _query(self, database: str, query: str) -> int:
        engine = sa.create_engine(self._url(database))
        with engine.connect() as db:
            value = db.scalar(sa.text(query))
        engine.dispose()
        return int(value or 0)


class Sampler:
    """Takes samples of a process tree and its databases, and appends each to a file."""

    def __init__(self, process: int, databases: Databases, folder: Path) -> None:
        self.process, self.databases, self.file = process, databases, folder / "samples.csv"
        self.began, self.samples = time.time(), list[Sample]()
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(self.file, [[column.name for column in fields(Sample)]])

    def take_sample(self, instance: dg.DagsterInstance, pending: int) -> None:
        """Take a sample; ``pending`` is the number of changes that have not arrived yet."""
        memory, cpu_seconds = usage(self.process)
        now = time.time()
        sample = Sample(
            at=round(now, 1),
            seconds=round(now - self.began, 1),
            daemon=memory["daemon"],
            code_server=memory["code_server"],
            webserver=memory["webserver"],
            start=memory["start"],
            cpu_seconds=cpu_seconds,
            **self.databases.sizes(),
            runs=instance.get_runs_count(),
            ticks=len(ended_ticks(instance)),
            pending=pending,
            load=os.getloadavg()[0],
        )
        self.samples.append(sample)
        write_rows(self.file, [astuple(sample)], "a")


def write_rows(file: Path, rows: Iterable[Iterable[object]], mode: str = "w") -> None:
    """Write rows to a CSV file."""
    with file.open(mode, newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)


def usage(root: int) -> tuple[dict[str, int], float]:
    """Return the MB of each process in `COMMANDS` below ``root``, and the CPU seconds of all."""
    memory, clock_ticks = dict.fromkeys(COMMANDS, 0), 0
    for process in process_tree(root):
        folder = Path("/proc", str(process))
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ")
            status = (folder / "status").read_text()
            stat = (folder / "stat").read_text()
        except OSError:  # it ended
            continue
        clock_ticks += clock_ticks_in(stat)
        if "ls_pipeline.cli.servers.process_guard" in command:
            continue
        for name, words in COMMANDS.items():
            if words in command and "VmRSS:" in status:
                memory[name] += int(status.partition("VmRSS:")[2].split()[0]) // 1024
                break
    return memory, clock_ticks / os.sysconf("SC_CLK_TCK")


def disk_bytes(place: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    total = 0
    for file in place.rglob("*") if place.is_dir() else [place]:
        with suppress(FileNotFoundError):  # SQLite deletes its journals at any time
            total += file.stat().st_size if file.is_file() else 0
    return total


@dataclass(frozen=True)
class SensorTick:
    """One tick of a sensor that has ended."""

    sensor: str
    began: float
    seconds: float
    failure: str
    """Why it failed; empty if it did not."""


def ended_ticks(instance: dg.DagsterInstance) -> list[SensorTick]:
    """Return all ticks that Dagster knows and that have ended."""
    ticks = []
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id):
            if tick.end_timestamp:
                seconds = tick.end_timestamp - tick.timestamp
                why = tick.error.to_string() if tick.error else tick.status.value
                failure = why if tick.status.value == "FAILURE" else ""
                ticks.append(SensorTick(state.instigator_name, tick.timestamp, seconds, failure))
    return ticks
