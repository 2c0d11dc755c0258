"""The page of the measurement under load: tables, and a chart over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.deployment import BIG
from benchmarks.report import machine

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.idle_ticks import IdleTickCost
    from benchmarks.resource_samples import Sample, SensorTick
    from benchmarks.traffic import Change

HEAD = """# Under load

Written by `make load CONNECTIONS={connections} EACH={objects} BIG={big} MINUTES={minutes:g}`, on
{machine}. The ledger and Dagster's storage are on {storage}.

One deployment, as `ls-pipeline start` runs it, has {connections} connections with {objects:,}
objects each, one with {big:,}, one whose bucket does not exist, and one whose bucket never answers.
On average, an object was put every {puts:g} seconds, one in ten of them into the big bucket, and a
task was labeled every {labels:g} seconds. Changes were made for {minutes:g} minutes, and the
measurement ended after {lasted:.0f}, when all of them had arrived.

The source buckets are synthetic and answer after {latency:.0f} ms. The target bucket is moto's, and
Label Studio is real. Everything ran on one machine. The median of its load average was {load:.0f}.
If that is more than its cores, the times below would be shorter on an idle machine.

![chart]({picture})

"""

MEGABYTE = 1e6


@dataclass(frozen=True)
class Measured:
    """Everything that was measured under load."""

    samples: Sequence[Sample]
    ticks: Sequence[SensorTick]
    changes: Sequence[Change]
    idle_ticks: Sequence[IdleTickCost]


def write(options: Namespace, measured: Measured) -> None:
    """Write the page, and the chart next to it."""
    picture = options.output.with_suffix(".svg")
    chart(measured, picture)
    head = HEAD.format(
        machine=machine(),
        picture=picture.name,
        storage="PostgreSQL" if options.postgresql else "SQLite",
        lasted=measured.samples[-1].seconds / 60,
        load=np.median([sample.load for sample in measured.samples]),
        **{**vars(options), "latency": options.latency * 1000},
    )
    parts = [
        arrival_table(measured.changes),
        tick_table(measured.ticks),
        idle_tick_table(measured.idle_ticks),
        memory_table(measured.samples),
        growth_table(measured.samples),
    ]
    options.output.write_text(head + "\n\n".join(parts) + "\n", encoding="utf-8")


def arrival_table(changes: Sequence[Change]) -> str:
    """Return how long changes took to arrive, as Markdown."""
    objects = [change for change in changes if change.kind == "object"]
    small = [change for change in objects if change.connection != BIG]
    big = [change for change in objects if change.connection == BIG]
    labels = [change for change in changes if change.kind == "label"]
    lines = [
        "| | count | p50 | p95 | worst | never |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        _arrival_row("objects, until their tasks are in Label Studio", small),
        _arrival_row("the same, of the big bucket", big),
        _arrival_row("labels, until they are in the target", labels),
    ]
    return "## How long a change takes to arrive\n\n" + "\n".join(lines)


def _arrival_row(title: str, changes: Sequence[Change]) -> str:
    ages = [change.age for change in changes if change.age is not None]
    never = len(changes) - len(ages)
    cells = [f"{np.quantile(ages, at):.0f} s" for at in (0.5, 0.95, 1)] if ages else ["", "", ""]
    return f"| {title} | {len(changes)} | {' | '.join(cells)} | {never} |"


def tick_table(ticks: Sequence[SensorTick]) -> str:
    """Return the durations of each sensor's ticks and the longest pause, as Markdown."""
    lines = [
        "| sensor | ticks | p50 | p95 | longest | failed | longest time between two |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for sensor in sorted({tick.sensor for tick in ticks}):
        own_ticks = sorted(
            (tick for tick in ticks if tick.sensor == sensor), key=lambda tick: tick.began
        )
        seconds = [tick.seconds for tick in own_ticks]
        cells = [f"{np.quantile(seconds, at):.1f} s" for at in (0.5, 0.95, 1)]
        pause = max(np.diff([tick.began for tick in own_ticks]), default=0.0)
        failed = sum(bool(tick.failure) for tick in own_ticks)
        lines.append(
            f"| `{sensor}` | {len(own_ticks)} | {' | '.join(cells)} | {failed} | {pause:.0f} s |"
        )
    about = "The time budget of a tick is 10 seconds, and 2 more for probes that are about to end."
    return f"## Ticks\n\n{about}\n\n" + "\n".join(lines)


def idle_tick_table(costs: Sequence[IdleTickCost]) -> str:
    """Return what a tick costs that finds nothing new, as Markdown."""
    lines = [
        "| sensor | our CPU time | Label Studio's CPU time |",
        "| --- | ---: | ---: |",
        *(f"| `{cost.sensor}` | {cost.ours:.2f} s | {cost.label_studio:.2f} s |" for cost in costs),
    ]
    about = "The median of a few ticks at the end, with nothing new and no other work going on."
    return f"## What a tick costs\n\n{about}\n\n" + "\n".join(lines)


def memory_table(samples: Sequence[Sample]) -> str:
    """Return the memory of each process in each quarter of the time, as Markdown."""
    quarters = [samples[len(samples) * at // 4 : len(samples) * (at + 1) // 4] for at in range(4)]
    lines = [
        "| MB, median of each quarter of the time | first | second | third | last |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for process, title in (
        ("code_server", "code server, where the sensors run"),
        ("daemon", "daemon"),
        ("webserver", "webserver"),
        ("start", "`ls-pipeline start` itself"),
    ):
        medians = [np.median([getattr(sample, process) for sample in part]) for part in quarters]
        lines.append(f"| {title} | {' | '.join(f'{median:.0f}' for median in medians)} |")
    return "## Memory\n\n" + "\n".join(lines)


def growth_table(samples: Sequence[Sample]) -> str:
    """Return how much disk space each tick and run took, as Markdown."""
    first, last = samples[0], samples[-1]
    ticks, runs = last.ticks - first.ticks, last.runs - first.runs
    rows = [
        ("ticks", "ticks_bytes", f"{ticks} ticks", ticks),
        ("runs and their events", "runs_bytes", f"{runs} runs", runs),
        ("logs", "logs_bytes", f"{runs} runs", runs),
        ("the ledger", "ledger_bytes", f"{runs} runs", runs),
    ]
    lines = ["| | at the start | at the end | from | each |", "| --- | ---: | ---: | ---: | ---: |"]
    for title, name, count, number in rows:
        before, after = getattr(first, name), getattr(last, name)
        each = f"{(after - before) / max(number, 1) / 1000:.1f} KB"
        sizes = f"{before / MEGABYTE:.1f} MB | {after / MEGABYTE:.1f} MB"
        lines.append(f"| {title} | {sizes} | {count} | {each} |")
    return "## What Dagster and the ledger keep\n\n" + "\n".join(lines)


def chart(measured: Measured, file: Path) -> None:
    """Draw memory, ticks, arrivals and growth over time, one below the other."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ls_pipeline"
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(4, 1, sharex=True, figsize=(8, 9))
    _draw_memory(rows[0], measured.samples)
    _draw_ticks(rows[1], measured)
    _draw_arrivals(rows[2], measured)
    _draw_growth(rows[3], measured.samples)
    for axes in rows:
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, loc="upper left", ncols=4)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def _draw_memory(axes: Axes, samples: Sequence[Sample]) -> None:
    minutes = [sample.seconds / 60 for sample in samples]
    for process in ("code_server", "daemon", "webserver", "start"):
        megabytes = [getattr(sample, process) for sample in samples]
        axes.plot(minutes, megabytes, label=process.replace("_", " "))
    axes.set_title("memory, MB", loc="left", fontsize=10)


def _draw_ticks(axes: Axes, measured: Measured) -> None:
    began = measured.samples[0].at
    for sensor in sorted({tick.sensor for tick in measured.ticks}):
        own_ticks = [
            tick for tick in measured.ticks if tick.sensor == sensor and tick.began >= began
        ]
        minutes = [(tick.began - began) / 60 for tick in own_ticks]
        seconds = [tick.seconds for tick in own_ticks]
        axes.plot(minutes, seconds, ".", markersize=3, label=sensor)
    axes.set_title("seconds of a tick", loc="left", fontsize=10)


def _draw_arrivals(axes: Axes, measured: Measured) -> None:
    began = measured.samples[0].at
    for kind in ("object", "label"):
        points = [
            ((change.happened - began) / 60, change.age)
            for change in measured.changes
            if change.kind == kind and change.age is not None
        ]
        minutes, ages = [point[0] for point in points], [point[1] for point in points]
        axes.plot(minutes, ages, ".", markersize=4, label=kind)
    axes.set_title("seconds until a change has arrived", loc="left", fontsize=10)


def _draw_growth(axes: Axes, samples: Sequence[Sample]) -> None:
    minutes = [sample.seconds / 60 for sample in samples]
    for name in ("ticks", "runs", "logs", "ledger"):
        sizes = [getattr(sample, f"{name}_bytes") for sample in samples]
        axes.plot(minutes, [(size - sizes[0]) / MEGABYTE for size in sizes], label=name)
    axes.set_title("growth, MB", loc="left", fontsize=10)
