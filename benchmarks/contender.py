"""Run contenders in turn, each in a process of its own; believe only those that are right."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class WrongResultError(Exception):
    """A contender did not do the work that it was measured at."""


@dataclass
class Contender:
    """One way of doing some work, and what each of its runs took.

    ``right`` is what its result must hold; ``runs`` have ``seconds`` by the clock, ``processor``
    seconds, those of ``server`` included if there is one, and ``megabytes`` at the peak.
    """

    title: str
    name: str
    asked: Mapping[str, Any]
    right: Mapping[str, Any]
    server: int = 0
    runs: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> None:
        took = run(self.name, self.asked, self.server)
        found = took.pop("result")
        if not self.right.items() <= found.items():
            raise WrongResultError(f"{self.title}: {found}, and not {self.right}")
        self.runs.append(took)

    def median(self, what: str) -> float:
        return statistics.median(one[what] for one in self.runs)

    def spread(self, what: str) -> tuple[float, float]:
        values = [one[what] for one in self.runs]
        return min(values), max(values)


def run(name: str, asked: Mapping[str, Any], server: int = 0) -> dict[str, Any]:
    """Run something of `contenders` once; give its result and what it and a server took."""
    told = [name, json.dumps(asked), str(server)]
    command = [sys.executable, "-m", "benchmarks.contender_process", *told]
    done = subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise WrongResultError(f"{name} failed:\n{done.stderr}")
    took: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return took


def family(process: int) -> set[int]:
    """Give a process and all its descendants."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        parents[int(file.parent.name)] = int(fields[1])
    found = {process}
    while more := {one for one in parents if parents[one] in found} - found:
        found |= more
    return found


def processor_of(process: int) -> float:
    """Give the seconds of processor time that a process and its descendants took; 0 of none."""
    if not process:
        return 0.0
    ticks = 0
    for one in family(process):
        try:
            stat = Path("/proc", str(one), "stat").read_text(encoding="utf-8")
        except OSError:  # it ended
            continue
        ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def in_turn(contenders: Sequence[Contender], repeats: int) -> None:
    """Run all of them, one after the other, so often; begin with another each time."""
    for n in range(repeats):
        for at in range(len(contenders)):
            one = contenders[(n + at) % len(contenders)]
            one.run()
            print(f"  {one.title}: {one.runs[-1]}", flush=True)  # noqa: T201


@contextmanager
def list_server(objects: int, latency: float = 0.0, **told: Sequence[str]) -> Iterator[str]:
    """Run made-up buckets; give their server's URL. `benchmarks.synthetic_s3` has the options."""
    command = [sys.executable, "-m", "benchmarks.synthetic_s3", "--objects", str(objects)]
    command += ["--latency", str(latency)]
    for option, values in told.items():
        for value in values:
            command += [f"--{option}", value]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 - for the type alone
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()  # it has nothing to put away


def made_up_ledger(objects: int, folder: Path) -> Path:
    """Give a ledger that knows all objects of a made-up bucket; made at the first call."""
    file = folder / f"ledger-{objects}.db"
    if not file.exists():
        print(f"Filling a ledger with {objects:,} objects …", flush=True)  # noqa: T201
        run("made_up_ledger", {"ledger": f"sqlite:///{file}", "objects": objects})
    return file
