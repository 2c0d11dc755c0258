"""What was measured, for people: tables, a chart, and the machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from benchmarks.contender import Contender


@dataclass
class Work:
    """Some work, and those who do it."""

    title: str
    about: str
    contenders: Sequence[Contender]

    @property
    def text(self) -> str:
        """Tell it as a `Section` is told."""
        return f"{self.about}\n\n{table(self)}"


@dataclass
class Section:
    """Something else that was measured, told in Markdown."""

    title: str
    text: str


HEAD = """# Benchmarks

Written by `make bench OBJECTS={objects} GCS_OBJECTS={gcs_objects} TASKS={tasks} PUTS={puts}
REPEATS={repeats}`, on {machine}.

Each figure is the median of the runs, with the lowest and the highest. All take turns, each in a
process of its own, and a run counts only when its result is right. The seconds begin when all
is imported; the memory is all that the process had, its libraries included. Where Label Studio
does a part of the work, its processor seconds count, too, whoever asks it.

The made-up bucket is `benchmarks/synthetic_s3.py`, which makes up its objects: servers that keep
them take longer to list them than anyone here to read the list.

![chart]({picture})

"""


def write(measured: Sequence[Work | Section], asked: Namespace, file: Path) -> None:
    """Write all that was measured, and a chart beside it."""
    picture = file.with_suffix(".svg")
    chart([one for one in measured if isinstance(one, Work)], picture)
    head = HEAD.format(machine=machine(), picture=picture.name, **vars(asked))
    parts = [f"## {one.title}\n\n{one.text}" for one in measured]
    file.write_text(head + "\n\n".join(parts) + "\n", encoding="utf-8")


def table(work: Work) -> str:
    """Write one work's figures, and how often the first one's seconds each of them took."""
    first = work.contenders[0]
    lines = [
        "| | seconds | ratio | processor seconds | ratio | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in work.contenders:
        cells = [one.title]
        for what in ("seconds", "processor"):
            cells += [_told(one, what), f"{one.median(what) / first.median(what):.3g}"]
        lines.append(f"| {' | '.join(cells)} | {one.median('megabytes'):.0f} MB |")
    return "\n".join(lines)


def _told(one: Contender, what: str) -> str:
    low, high = one.spread(what)
    return f"{one.median(what):.3g} ({low:.3g} to {high:.3g})"


def chart(works: Sequence[Work], file: Path) -> None:
    """Draw how often the first one's seconds each of the others took, all on one scale."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ls_pipeline"
    from matplotlib import pyplot as plt

    heights = [len(work.contenders) for work in works]
    figure, rows = plt.subplots(
        len(works),
        1,
        sharex=True,
        squeeze=False,
        figsize=(8, 0.3 * sum(heights) + 0.5 * len(works)),
        height_ratios=heights,
    )
    for (axes,), work in zip(rows, works, strict=True):
        first, *others = work.contenders
        drawn = [*others, first]
        for what, shift, colour in (("seconds", 0.2, "0.7"), ("processor", -0.2, "tab:blue")):
            ratios = [one.median(what) / first.median(what) for one in drawn]
            places = [place + shift for place in range(len(ratios))]
            axes.barh(places, [one - 1 for one in ratios], 0.38, left=1, color=colour)
            for place, ratio in zip(places[:-1], ratios, strict=False):
                side = "left" if ratio > 1 else "right"
                axes.annotate(
                    f" {ratio:.2g} " if ratio < 100 else f" {ratio:.0f} ",  # noqa: PLR2004
                    (ratio, place),
                    fontsize=7,
                    ha=side,
                    va="center",
                )
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(drawn)), [one.title for one in drawn])
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_title(work.title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1][0].set_xlabel("times ours: grey seconds, blue processor seconds")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def machine() -> str:
    """Describe what was measured on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = info.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("dagster", "dagster-aws", "boto3", "lxml")
    )
    return (
        f"{info.count('processor	:')} cores of {model or 'an unnamed processor'}, "
        f"{platform.system()}, Python {platform.python_version()}; {libraries}"
    )
