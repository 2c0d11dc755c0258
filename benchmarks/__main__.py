"""Measure, and write docs/benchmarks.md: ``python -m benchmarks --objects 1000000``."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import ENVIRONMENT, Contender, in_turn, list_server, run
from ls_pipeline.cli.servers import label_studio_server, running

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "our sensor"
ONE_BY_ONE = "our sensor, page after page"
PEER = "dagster-aws's get_objects"
RAW = "plain HTTP, nothing understood"

BEFORE, AFTER = "a.json", "z.json"
"""Keys before and after all that a made-up bucket has."""


@dataclass
class Work:
    """Some work, and those who do it."""

    title: str
    about: str
    contenders: Sequence[Contender]


def measured(objects: int, latency: float, repeats: int, folder: Path) -> list[Work]:
    """Measure everything at one size."""
    ledger = f"sqlite:///{folder}/ledger.db"
    print(f"Filling a ledger with {objects:,} objects …", flush=True)  # noqa: T201
    run("made_up_ledger", {"ledger": ledger, "objects": objects})

    def ours(title: str, url: str, *, parallel: bool, new: int = 0) -> Contender:
        asked = {"url": url, "ledger": ledger, "objects": objects, "parallel": int(parallel)}
        return Contender(title, "sensor", asked, {"new": new})

    def peer(url: str, new: int = 0) -> Contender:
        return Contender(PEER, "get_objects", {"url": url}, {"new": new})

    works = []

    def measure(title: str, about: str, contenders: Sequence[Contender], times: int) -> None:
        print(title, flush=True)  # noqa: T201
        in_turn(contenders, times)
        works.append(Work(title, about, contenders))

    with list_server(objects) as url:
        measure(
            f"Nothing new among {objects:,} objects",
            "The server answers at once, so this is what a look costs the machine that looks.",
            [
                ours(OURS, url, parallel=True),
                ours(ONE_BY_ONE, url, parallel=False),
                peer(url),
                Contender(RAW, "raw_listing", {"url": url}, {"objects": objects}),
            ],
            repeats,
        )
    with list_server(objects, latency) as url:
        measure(
            f"The same, {latency * 1000:.0f} ms away",
            "Each answer waits, as it does between a machine and a bucket in the cloud.",
            [ours(OURS, url, parallel=True), ours(ONE_BY_ONE, url, parallel=False)],
            repeats,
        )
    for where, key in (("start", BEFORE), ("end", AFTER)):
        with list_server(objects, extra=[key]) as url:
            measure(
                f"One new object at the {where} of {objects:,}",
                "It must be found; get_objects finds it by its time of modification.",
                [ours(OURS, url, parallel=True, new=1), peer(url, new=1)],
                repeats,
            )
    return works


def loaded(objects: int, repeats: int, folder: Path) -> list[Work]:
    """Measure loading into a real Label Studio."""
    works = []
    with list_server(objects) as url:
        at = {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}
        server = label_studio_server(folder / "label-studio", folder / "logs", at)
        with running([server]):
            os.environ.update(server.client_environment)
            process = server._process.pid if server._process else 0  # noqa: SLF001

            def contender(title: str, name: str, made: int, **asked: int) -> Contender:
                right = {"made": made, "tasks": objects}
                # What comes before a second pass took Label Studio's time, too.
                watched = 0 if asked.get("again") else process
                return Contender(title, name, {"url": url, **asked}, right, watched)

            for what, blobs in (("JSON objects", 0), ("blobs", 1)):
                print(f"First load of {objects:,} {what}", flush=True)  # noqa: T201
                contenders = [
                    contender("our pass", "our_pass", objects, blobs=blobs, again=0),
                    contender("its own sync", "label_studio_sync", objects, blobs=blobs, again=0),
                    contender("its import alone", "import_alone", objects, objects=objects),
                ]
                in_turn(contenders, repeats)
                about = "The import alone has its tasks in memory: no way to load them is faster."
                works.append(Work(f"First load of {objects:,} {what}", about, contenders))
            print("Again", flush=True)  # noqa: T201
            contenders = [
                contender("our pass", "our_pass", 0, blobs=0, again=1),
                contender("its own sync", "label_studio_sync", 0, blobs=0, again=1),
            ]
            in_turn(contenders, repeats)
            works.append(
                Work(f"Again, nothing new among {objects:,}", "After a first load.", contenders)
            )
    return works


def table(work: Work) -> str:
    """Write one work's figures."""
    first = work.contenders[0]
    lines = [
        "| | seconds | processor seconds | peak memory | times our processor seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in work.contenders:
        ratio = one.median("processor") / first.median("processor")
        told = [_told(one, what) for what in ("seconds", "processor")]
        megabytes = f"{one.median('megabytes'):.0f} MB"
        lines.append(f"| {one.title} | {told[0]} | {told[1]} | {megabytes} | {ratio:.3g} |")
    return "\n".join(lines)


def _told(one: Contender, what: str) -> str:
    low, high = one.spread(what)
    return f"{one.median(what):.3g} ({low:.3g} to {high:.3g})"


def chart(works: Sequence[Work], file: Path) -> None:
    """Draw the medians of each work, on a scale where each step is ten times the last."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ls_pipeline"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, rows = plt.subplots(len(works), 1, figsize=(8, 1.9 * len(works)))
    for axes, work in zip(rows, works, strict=True):
        names = [one.title for one in work.contenders][::-1]
        places = range(len(names))
        for what, shift, colour in (("seconds", 0.2, "0.7"), ("processor", -0.2, "tab:blue")):
            values = [one.median(what) for one in work.contenders][::-1]
            at = [place + shift for place in places]
            axes.barh(at, values, 0.38, color=colour, label=what)
        axes.set_yticks(list(places), names)
        axes.set_xscale("log")
        axes.set_title(work.title, loc="left", fontsize=10)
    rows[0].legend(["seconds", "processor seconds"], fontsize=8)
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


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--tasks", type=int, default=0, help="To load; 0: none.")
    parser.add_argument("--latency", type=float, default=0.08, help="Seconds before an answer.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        works = measured(asked.objects, asked.latency, asked.repeats, Path(folder))
        if asked.tasks:
            works += loaded(asked.tasks, asked.repeats, Path(folder))
    picture = asked.output.with_suffix(".svg")
    chart(works, picture)
    parts = [f"## {work.title}\n\n{work.about}\n\n{table(work)}" for work in works]
    asked.output.write_text(
        HEAD.format(
            machine=machine(),
            repeats=asked.repeats,
            objects=asked.objects,
            tasks=asked.tasks,
            picture=picture.name,
        )
        + "\n\n".join(parts)
        + "\n",
        encoding="utf-8",
    )


HEAD = """# Benchmarks

Written by `make bench OBJECTS={objects} TASKS={tasks} REPEATS={repeats}`, on {machine}.

Each figure is the median of the runs, with the lowest and the highest. All take turns, each in a
process of its own, and a run counts only when its result is right. The seconds begin when all
is imported; the memory is all that the process had, its libraries included. The bucket is
`benchmarks/list_server.py`, which makes up its objects: servers that keep them take longer to list
them than anyone here to read the list.

![chart]({picture})

"""

if __name__ == "__main__":
    main()
