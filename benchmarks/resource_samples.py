"""What a deployment takes, from minute to minute: memory, disk, and the time of its ticks."""

from __future__ import annotations

import csv
import os
import time
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from benchmarks.contender import family

if TYPE_CHECKING:
    from collections.abc import Iterable

    import dagster as dg

PARTS = {
    "daemon": "dagster._daemon",
    "code_server": "api grpc",
    "webserver": "dagster_webserver",
    "start": "ls-pipeline start",
}
"""Words of a process's command that tell which part it is."""


@dataclass(frozen=True)
class Sample:
    """One look: when, and seconds since the first; memory in MB, disk in bytes, and counts."""

    at: float
    seconds: float
    daemon: int
    code_server: int
    webserver: int
    start: int
    processor: float
    """Seconds of processor time that all of it took so far, runs that ended not included."""
    ticks_bytes: int
    runs_bytes: int
    logs_bytes: int
    ledger_bytes: int
    runs: int
    ticks: int
    waiting: int
    """Changes that have not arrived yet."""
    load: float
    """The machine's load average of the last minute, whoever causes it."""


STORAGE = """
storage:
  postgres:
    postgres_url: {url}
"""
"""What Dagster's settings say of a PostgreSQL."""


@dataclass(frozen=True)
class Databases:
    """Where a deployment keeps what: in files of its home, or on a server of PostgreSQL."""

    home: Path
    server: str = ""
    """``USER:PASSWORD@HOST:PORT``; empty: files."""

    def prepare(self, dagster_home: Path) -> None:
        """Make the two databases, ``ledger`` and ``dagster``, and say so to Dagster and to us."""
        if not self.server:
            return
        import psycopg

        with psycopg.connect(f"postgresql://{self.server}/postgres", autocommit=True) as db:
            db.execute("CREATE DATABASE ledger")
            db.execute("CREATE DATABASE dagster")
        with (dagster_home / "dagster.yaml").open("a", encoding="utf-8") as settings:
            settings.write(STORAGE.format(url=f"postgresql://{self.server}/dagster"))
        os.environ.update(self.environment)

    @property
    def environment(self) -> dict[str, str]:
        if not self.server:
            return {}
        return {"LS_PIPELINE_DATABASE_URL": self._url("ledger")}

    def sizes(self) -> dict[str, int]:
        """Give the bytes of each, as `Sample` names them."""
        place = self.home / "dagster"
        logs = {"logs_bytes": disk(place / "storage")}
        if not self.server:
            return logs | {
                "ticks_bytes": disk(place / "schedules"),
                "runs_bytes": disk(place / "history"),
                "ledger_bytes": sum(map(disk, self.home.glob("ledger.db*"))),
            }
        ticks = self._asked("dagster", "SELECT pg_total_relation_size('job_ticks')")
        whole = "SELECT pg_database_size(current_database())"
        return logs | {
            "ticks_bytes": ticks,
            "runs_bytes": self._asked("dagster", whole) - ticks,
            "ledger_bytes": self._asked("ledger", whole),
        }

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.server}/{database}"

    def _asked(self, database: str, question: str) -> int:
        engine = sa.create_engine(self._url(database))
        with engine.connect() as db:
            found = db.scalar(sa.text(question))
        engine.dispose()
        return int(found or 0)


class Sampling:
    """Looks at the processes below one, and at databases; each look goes to a file at once."""

    def __init__(self, process: int, databases: Databases, folder: Path) -> None:
        self.process, self.databases, self.file = process, databases, folder / "samples.csv"
        self.began, self.samples = time.time(), list[Sample]()
        folder.mkdir(parents=True, exist_ok=True)
        rows(self.file, [[one.name for one in fields(Sample)]])

    def look(self, instance: dg.DagsterInstance, waiting: int) -> None:
        """Take a sample."""
        memory, processor = parts_of(self.process)
        now = time.time()
        sample = Sample(
            at=round(now, 1),
            seconds=round(now - self.began, 1),
            daemon=memory["daemon"],
            code_server=memory["code_server"],
            webserver=memory["webserver"],
            start=memory["start"],
            processor=processor,
            **self.databases.sizes(),
            runs=instance.get_runs_count(),
            ticks=len(ticks(instance)),
            waiting=waiting,
            load=os.getloadavg()[0],
        )
        self.samples.append(sample)
        rows(self.file, [astuple(sample)], "a")


def rows(file: Path, some: Iterable[Iterable[object]], mode: str = "w") -> None:
    """Write rows to a CSV file."""
    with file.open(mode, newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(some)


def parts_of(process: int) -> tuple[dict[str, int], float]:
    """Give the MB of each part of a process's family, and the processor seconds of all of it."""
    memory, ticks = dict.fromkeys(PARTS, 0), 0
    for number in family(process):
        place = Path("/proc", str(number))
        try:
            command = (place / "cmdline").read_text().replace("\0", " ")
            status = (place / "status").read_text()
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        ticks += sum(map(int, fields[11:15]))
        if "ls_pipeline.cli.servers.process_guard" in command:
            continue
        for part, words in PARTS.items():
            if words in command and "VmRSS:" in status:
                memory[part] += int(status.partition("VmRSS:")[2].split()[0]) // 1024
                break
    return memory, ticks / os.sysconf("SC_CLK_TCK")


def disk(place: Path) -> int:
    """Give the bytes of a file, or of all files in a folder; SQLite's come and go meanwhile."""
    found = 0
    for file in place.rglob("*") if place.is_dir() else [place]:
        with suppress(FileNotFoundError):
            found += file.stat().st_size if file.is_file() else 0
    return found


@dataclass(frozen=True)
class Took:
    """One tick of a sensor that has ended."""

    sensor: str
    began: float
    seconds: float
    failed: bool


def ticks(instance: dg.DagsterInstance) -> list[Took]:
    """List all ticks that Dagster knows of and that have ended."""
    found = []
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id):
            if tick.end_timestamp:
                took = tick.end_timestamp - tick.timestamp
                failed = tick.status.value == "FAILURE"
                found.append(Took(state.instigator_name, tick.timestamp, took, failed))
    return found
