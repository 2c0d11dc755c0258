"""What was measured under load, for people: tables, and a chart over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.deployment import BIG
from benchmarks.report import machine

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.idle_ticks import Alone
    from benchmarks.resource_samples import Sample, Took
    from benchmarks.traffic import Change

HEAD = """# Under load

Written by `make load CONNECTIONS={connections} EACH={objects} BIG={big} MINUTES={minutes:g}`, on
{machine}; the ledger and Dagster's storage are on {storage}.

{connections} connections of {objects:,} objects each, one of {big:,}, one whose bucket does not
exist and one whose bucket never answers, in one deployment as `ls-pipeline start` runs it, for
{lasted:.0f} minutes: {minutes:g} of changes, and the rest for the last of them to arrive. Buckets
are made up, and answer after {latency:.0f} ms; the targets' bucket is moto's, Label Studio is real,
and all of it ran on this one machine. Somewhere an object was put every {puts:g} seconds on
average, one in ten of them in the big bucket, and a task was labeled every {labels:g}.

The machine's load average was {load:.0f}, by the median: where that is more than it has cores,
others were at work on it, too, and without them the seconds by the clock were fewer.

![chart]({picture})

"""

MEGABYTE = 1e6


def write(
    asked: Namespace,
    samples: Sequence[Sample],
    took: Sequence[Took],
    changes: Sequence[Change],
    alone: Sequence[Alone],
) -> None:
    """Write all that was measured, and a chart beside it."""
    picture = asked.output.with_suffix(".svg")
    chart(samples, took, changes, picture)
    head = HEAD.format(
        machine=machine(),
        picture=picture.name,
        storage="PostgreSQL" if asked.postgresql else "SQLite",
        lasted=samples[-1].seconds / 60,
        load=np.median([one.load for one in samples]),
        **{**vars(asked), "latency": asked.latency * 1000},
    )
    parts = [ages(changes), ticks(took), costs(alone), memory(samples), growth(samples)]
    asked.output.write_text(head + "\n\n".join(parts) + "\n", encoding="utf-8")


def ages(changes: Sequence[Change]) -> str:
    """Tell how old changes were when they had arrived."""
    small = [one for one in changes if one.what == "object" and one.connection != BIG]
    big = [one for one in changes if one.what == "object" and one.connection == BIG]
    labels = [one for one in changes if one.what == "label"]
    lines = [
        "| | count | p50 | p95 | worst | never |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        _ages("objects, until their tasks are in Label Studio", small),
        _ages("objects of the big bucket, likewise", big),
        _ages("labels, until they are in the target", labels),
    ]
    return "## How old a change is when it has arrived\n\n" + "\n".join(lines)


def _ages(title: str, changes: Sequence[Change]) -> str:
    found = [one.age for one in changes if one.age is not None]
    never = len(changes) - len(found)
    cells = [f"{np.quantile(found, at):.0f} s" for at in (0.5, 0.95, 1)] if found else ["", "", ""]
    return f"| {title} | {len(changes)} | {' | '.join(cells)} | {never} |"


def ticks(took: Sequence[Took]) -> str:
    """Tell how long ticks took, and how often each sensor had one."""
    lines = [
        "| sensor | ticks | p50 | p95 | longest | failed | longest pause between two |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for sensor in sorted({one.sensor for one in took}):
        mine = sorted((one for one in took if one.sensor == sensor), key=lambda one: one.began)
        seconds = [one.seconds for one in mine]
        cells = [f"{np.quantile(seconds, at):.1f} s" for at in (0.5, 0.95, 1)]
        pause = max(np.diff([one.began for one in mine]), default=0.0)
        failed = sum(one.failed for one in mine)
        lines.append(
            f"| `{sensor}` | {len(mine)} | {' | '.join(cells)} | {failed} | {pause:.0f} s |"
        )
    about = "A tick may take 10 seconds, and 2 more for looks that are about to end."
    return f"## Ticks\n\n{about}\n\n" + "\n".join(lines)


def costs(alone: Sequence[Alone]) -> str:
    """Tell what a tick costs that finds nothing."""
    lines = [
        "| sensor | processor, ours | Label Studio's |",
        "| --- | ---: | ---: |",
        *(f"| `{one.sensor}` | {one.ours:.2f} s | {one.label_studio:.2f} s |" for one in alone),
    ]
    about = "The median of a few ticks afterwards, with nothing new and nothing else going on."
    return f"## What a tick costs\n\n{about}\n\n" + "\n".join(lines)


def memory(samples: Sequence[Sample]) -> str:
    """Tell how much memory each part had, early and late."""
    quarters = [samples[len(samples) * at // 4 : len(samples) * (at + 1) // 4] for at in range(4)]
    lines = [
        "| median of a quarter, MB | first | second | third | last |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for part, title in (
        ("code_server", "code server, where sensors look"),
        ("daemon", "daemon"),
        ("webserver", "webserver"),
        ("start", "`ls-pipeline start` itself"),
    ):
        cells = [f"{np.median([getattr(one, part) for one in some]):.0f}" for some in quarters]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "## Memory\n\n" + "\n".join(lines)


def growth(samples: Sequence[Sample]) -> str:
    """Tell by how much the databases grew, for each tick and run."""
    first, last = samples[0], samples[-1]
    ticks, runs = last.ticks - first.ticks, last.runs - first.runs
    rows = [
        ("ticks", "ticks_bytes", f"{ticks} ticks", ticks),
        ("runs and their events", "runs_bytes", f"{runs} runs", runs),
        ("logs", "logs_bytes", f"{runs} runs", runs),
        ("the ledger", "ledger_bytes", f"{runs} runs", runs),
    ]
    lines = ["| | at first | at last | for | each |", "| --- | ---: | ---: | ---: | ---: |"]
    for title, name, count, number in rows:
        before, after = getattr(first, name), getattr(last, name)
        each = f"{(after - before) / max(number, 1) / 1000:.1f} KB"
        sizes = f"{before / MEGABYTE:.1f} MB | {after / MEGABYTE:.1f} MB"
        lines.append(f"| {title} | {sizes} | {count} | {each} |")
    return "## What Dagster and the ledger keep\n\n" + "\n".join(lines)


def chart(
    samples: Sequence[Sample], took: Sequence[Took], changes: Sequence[Change], file: Path
) -> None:
    """Draw memory, ticks, ages and growth over time, one below the other."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ls_pipeline"
    from matplotlib import pyplot as plt

    began = samples[0].at
    minutes = [one.seconds / 60 for one in samples]
    figure, rows = plt.subplots(4, 1, sharex=True, figsize=(8, 9))
    for part in ("code_server", "daemon", "webserver", "start"):
        rows[0].plot(minutes, [getattr(one, part) for one in samples], label=part.replace("_", " "))
    rows[0].set_title("memory, MB", loc="left", fontsize=10)
    for sensor in sorted({one.sensor for one in took}):
        mine = [one for one in took if one.sensor == sensor and one.began >= began]
        at = [(one.began - began) / 60 for one in mine]
        rows[1].plot(at, [one.seconds for one in mine], ".", markersize=3, label=sensor)
    rows[1].set_title("seconds of a tick", loc="left", fontsize=10)
    for what in ("object", "label"):
        arrived = [one for one in changes if one.what == what and one.age is not None]
        at = [(one.happened - began) / 60 for one in arrived]
        rows[2].plot(at, [one.age for one in arrived], ".", markersize=4, label=what)
    rows[2].set_title("seconds until a change has arrived", loc="left", fontsize=10)
    for name in ("ticks", "runs", "logs", "ledger"):
        sizes = [getattr(one, f"{name}_bytes") for one in samples]
        rows[3].plot(minutes, [(one - sizes[0]) / MEGABYTE for one in sizes], label=name)
    rows[3].set_title("growth, MB", loc="left", fontsize=10)
    for axes in rows:
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, loc="upper left", ncols=4)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
