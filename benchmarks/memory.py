"""Peak memory of runs over the largest inputs, whatever their shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.contender import run
from benchmarks.fixtures import new_ledger_url
from benchmarks.memory_contenders import shapes
from benchmarks.report import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOUND = 700
"""Megabytes that a run may take, its libraries included."""

MANY = 16
"""Objects that are loaded at once, of a shape that is quickly read."""

MASK_BYTES, LARGE_BYTES, LARGE = 50_000, 10_000_000, 5
"""Sizes of masks as JSON, and the number of the large ones."""

ABOUT = f"""Each row is a run in a process of its own, over one object unless the row says more. A
run may take {BOUND} MB, of which about 300 MB are libraries."""


@dataclass(frozen=True)
class Case:
    """A run to measure: a function of `contender_process`, and one that prepares its input."""

    title: str
    function: str
    arguments: Mapping[str, Any]
    """Of both functions."""
    prepare: str = ""
    """Empty: the case before has made the input."""
    of_preparation: Mapping[str, Any] = field(default_factory=dict)


def memory(url: str, megabytes: int, masks: int) -> Section:
    """Measure all cases on an S3 server; needs a Label Studio."""
    lines = [
        "| | seconds | peak memory | tasks | in quarantine |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for case in (*cases(megabytes), *mask_cases(masks)):
        print(f"Memory: {case.title}", flush=True)  # noqa: T201
        arguments = {"url": url, **case.arguments}
        if case.prepare:
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
        yield Case(shape, "load_shape", arguments, "fill_with_shape", size)
    for shape in ("a list with a text", "spaces before a task"):
        arguments = {"shape": shape, "objects": MANY}
        title = f"{MANY} objects: {shape}"
        yield Case(title, "load_shape", arguments, "fill_with_shape", size)


def mask_cases(masks: int) -> Iterator[Case]:
    """Yield an export of brush masks, then a snapshot and a conversion of them."""
    if not masks:
        return
    arguments = {"ledger": new_ledger_url(), "sizes": (masks, MASK_BYTES, LARGE, LARGE_BYTES)}
    title = (
        f"{masks:,} brush masks of {MASK_BYTES // 1000} KB, and {LARGE} of "
        f"{LARGE_BYTES // 10**6} MB"
    )
    yield Case(f"{title}: export", "export_masks", arguments)
    yield Case("the same: a snapshot", "snapshot_masks", arguments)
    formats = {"formats": ["JSON_MIN"]}
    yield Case("the same: the snapshot as JSON_MIN", "convert_masks", {**arguments, **formats})
