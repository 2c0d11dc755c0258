"""The page of the comparisons with peers: tables, a chart, and a description of the machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from benchmarks.contender import Contender, Figure


@dataclass
class Comparison:
    """Some work, and the contenders that were measured at it. The first is the reference."""

    title: str
    about: str
    contenders: Sequence[Contender]

    @property
    def text(self) -> str:
        return f"{self.about}\n\n{table(self)}"


@dataclass
class Section:
    """A measurement without contenders, as Markdown."""

    title: str
    text: str


HEAD = """# Benchmarks

Written by `make bench OBJECTS={objects} GCS_OBJECTS={gcs_objects} TASKS={tasks} ROWS={rows}
PUTS={puts} REPEATS={repeats}`, on {machine}.

Each figure is the median of all runs, followed by the lowest and the highest. A ratio compares a
row with the first one. Contenders run alternately, each in a process of its own. A run counts only
if its result is right. The clock starts after all imports. Memory is the peak of the whole process,
including its libraries. If Label Studio does part of the work, its CPU seconds are included.

The synthetic bucket is served by `benchmarks/synthetic_s3.py`, which generates its objects. A
server that stores them would take longer to list them than the clients take to read the listing.

![chart]({picture})

"""


def write(measured: Sequence[Comparison | Section], options: Namespace, file: Path) -> None:
    """Write the page, and the chart next to it."""
    picture = file.with_suffix(".svg")
    chart([part for part in measured if isinstance(part, Comparison)], picture)
    head = HEAD.format(machine=machine(), picture=picture.name, **vars(options))
    parts = [f"## {part.title}\n\n{part.text}" for part in measured]
    file.write_text(head + "\n\n".join(parts) + "\n", encoding="utf-8")


def table(comparison: Comparison) -> str:
    """Return the contenders' figures, and their ratios to the first one's, as a Markdown table."""
    first = comparison.contenders[0]
    lines = [
        "| | seconds | ratio | CPU seconds | ratio | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    figures: tuple[Figure, ...] = ("seconds", "cpu_seconds")
    for contender in comparison.contenders:
        cells = [contender.title]
        for figure in figures:
            ratio = contender.median(figure) / first.median(figure)
            cells += [_median_and_spread(contender, figure), f"{ratio:.3g}"]
        lines.append(f"| {' | '.join(cells)} | {contender.median('megabytes'):.0f} MB |")
    return "\n".join(lines)


def _median_and_spread(contender: Contender, figure: Figure) -> str:
    low, high = contender.spread(figure)
    return f"{contender.median(figure):.3g} ({low:.3g} to {high:.3g})"


def chart(comparisons: Sequence[Comparison], file: Path) -> None:
    """Draw the ratios of each comparison to its first contender, all on one scale."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ls_pipeline"
    from matplotlib import pyplot as plt

    heights = [len(comparison.contenders) for comparison in comparisons]
    figure, rows = plt.subplots(
        len(comparisons),
        1,
        sharex=True,
        squeeze=False,
        figsize=(8, 0.3 * sum(heights) + 0.5 * len(comparisons)),
        height_ratios=heights,
    )
    for (axes,), comparison in zip(rows, comparisons, strict=True):
        _draw(axes, comparison)
    rows[-1][0].set_xlabel("ratio to our figure: grey seconds, blue CPU seconds")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def _draw(axes: Axes, comparison: Comparison) -> None:
    first, *others = comparison.contenders
    contenders = [*others, first]
    bars: tuple[tuple[Figure, float, str], ...] = (
        ("seconds", 0.2, "0.7"),
        ("cpu_seconds", -0.2, "tab:blue"),
    )
    for figure, shift, colour in bars:
        ratios = [contender.median(figure) / first.median(figure) for contender in contenders]
        places = [place + shift for place in range(len(ratios))]
        axes.barh(places, [ratio - 1 for ratio in ratios], 0.38, left=1, color=colour)
        for place, ratio in zip(places[:-1], ratios, strict=False):
            axes.annotate(
                f" {ratio:.2g} " if ratio < 100 else f" {ratio:.0f} ",  # noqa: PLR2004
                (ratio, place),
                fontsize=7,
                ha="left" if ratio > 1 else "right",
                va="center",
            )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(contenders)), [contender.title for contender in contenders])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_title(comparison.title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def machine() -> str:
    """Return a description of this machine, its Python and the measured libraries."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = info.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("dagster", "dagster-aws", "boto3", "lxml")
    )
    return (
        f"{info.count('processor	:')} cores of {model or 'an unnamed processor'}, "
        f"{platform.system()}, Python {platform.python_version()}; {libraries}"
    )
