"""Peak memory of runs over the largest inputs, whatever their shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.contender import run
from benchmarks.memory_contenders import shapes
from benchmarks.report import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOUND = 700
"""Megabytes that a run may take, its libraries included."""

MANY = 16
"""Objects that are loaded at once, of a shape that is quickly read."""

ABOUT = f"""Each row is a run in a process of its own, over one object unless the row says more. A
run may take {BOUND} MB, of which about 300 MB are libraries."""


@dataclass(frozen=True)
class Case:
    """A run to measure: a function of `contender_process`, and one that prepares its input."""

    title: str
    prepare: str
    function: str
    arguments: Mapping[str, Any]
    """Of both functions."""
    of_preparation: Mapping[str, Any]


def memory(url: str, megabytes: int) -> Section:
    """Measure all cases on an S3 server; needs a Label Studio."""
    lines = [
        "| | seconds | peak memory | tasks | in quarantine |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for case in cases(megabytes):
        print(f"Memory: {case.title}", flush=True)  # noqa: T201
        arguments = {"url": url, **case.arguments}
        run(case.prepare, {**arguments, **case.of_preparation})
        result, taken = run(case.function, arguments)
        within = "" if taken.megabytes <= BOUND else ", **over the bound**"
        cells = [case.title, f"{taken.seconds:.0f}", f"{taken.megabytes:.0f} MB{within}"]
        cells += [f"{result[count]:,}" if count in result else "" for count in COUNTS]
        lines.append(f"| {' | '.join(cells)} |")
    title = f"Memory, whatever {megabytes} MB contain"
    return Section(title, f"{ABOUT}\n\n" + "\n".join(lines))


COUNTS = ("tasks", "quarantined")
"""The parts of a result that the table shows."""


def cases(megabytes: int) -> Iterator[Case]:
    """Yield what is measured."""
    size = {"size": megabytes * 10**6}
    for shape in shapes():
        arguments = {"shape": shape, "objects": 1}
        yield Case(shape, "fill_with_shape", "load_shape", arguments, size)
    for shape in ("a list with a text", "spaces before a task"):
        arguments = {"shape": shape, "objects": MANY}
        yield Case(f"{MANY} objects: {shape}", "fill_with_shape", "load_shape", arguments, size)
