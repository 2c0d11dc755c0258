"""Run contenders alternately, each in a process of its own, and check their results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Figure = Literal["seconds", "cpu_seconds", "megabytes"]

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class WrongResultError(Exception):
    """A contender did not do the work that was measured."""


@dataclass(frozen=True)
class Measurement:
    """What one run took: wall-clock seconds, CPU seconds, and peak memory in MB."""

    seconds: float
    cpu_seconds: float
    megabytes: float


@dataclass
class Contender:
    """One way of doing some work, and the measurements of its runs.

    ``function`` is the name of a function in `contender_process`. A run is valid only if its result
    contains ``expected``. The CPU seconds include those of the process ``server``, if it is not 0.
    """

    title: str
    function: str
    arguments: Mapping[str, Any]
    expected: Mapping[str, Any]
    server: int = 0
    measurements: list[Measurement] = field(default_factory=list)

    def run(self) -> None:
        result, measurement = run(self.function, self.arguments, self.server)
        if not self.expected.items() <= result.items():
            raise WrongResultError(f"{self.title}: {result} does not contain {self.expected}")
        self.measurements.append(measurement)

    def median(self, figure: Figure) -> float:
        return statistics.median(self._values(figure))

    def spread(self, figure: Figure) -> tuple[float, float]:
        values = self._values(figure)
        return min(values), max(values)

    def _values(self, figure: Figure) -> list[float]:
        return [getattr(measurement, figure) for measurement in self.measurements]


def run(
    function: str, arguments: Mapping[str, Any], server: int = 0
) -> tuple[dict[str, Any], Measurement]:
    """Run a function of `contender_process` once; return its result and what it took."""
    command = [sys.executable, "-m", "benchmarks.contender_process"]
    command += [function, json.dumps(arguments), str(server)]
    process = subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise WrongResultError(f"{function} failed:\n{process.stderr}")
    output: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return output.pop("result"), Measurement(**output)


def run_alternately(contenders: Sequence[Contender], repeats: int) -> None:
    """Run all contenders in turn, ``repeats`` times; start each round with a different one."""
    for first in range(repeats):
        for position in range(len(contenders)):
            contender = contenders[(first + position) % len(contenders)]
            contender.run()
            print(f"  {contender.title}: {contender.measurements[-1]}", flush=True)  # noqa: T201
