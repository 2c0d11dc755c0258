"""What a probe and a run cost as a bucket grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contender import Contender, run_alternately
from benchmarks.fixtures import ledger_of_all_objects
from benchmarks.report import Section
from benchmarks.synthetic_s3 import synthetic_s3

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = """Nothing is new, and the server answers immediately. A probe is a sensor's comparison of
the bucket with the ledger. A run is a run of `tasks`."""


def bucket_growth(objects: int, repeats: int, folder: Path) -> Section:
    """Measure probes and runs, each size ten times the one before; needs a Label Studio."""
    lines = [
        "| objects | probe: CPU | memory | run: CPU | memory | ledger, per object |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for size in sorted({max(objects // divisor, 10) for divisor in (1000, 100, 10, 1)}):
        print(f"Probes and runs at {size:,} objects", flush=True)  # noqa: T201
        file = ledger_of_all_objects(size, folder)
        bytes_per_object = file.stat().st_size / size
        with synthetic_s3(size) as url:
            arguments = {"url": url, "ledger": f"sqlite:///{file}"}
            probe = Contender(
                "probe", "our_s3_sensor", {**arguments, "new": [], "parallel": 1}, {"new": 0}
            )
            run = Contender("run", "our_run_without_changes", arguments, {"created": 0})
            run_alternately([probe, run], repeats)
        cells = [f"{size:,}"]
        for contender in (probe, run):
            cells += [f"{contender.median('cpu_seconds'):.3g} s"]
            cells += [f"{contender.median('megabytes'):.0f} MB"]
        cells += [f"{bytes_per_object:.0f} bytes"]
        lines.append(f"| {' | '.join(cells)} |")
    return Section("As a bucket grows", f"{ABOUT}\n\n" + "\n".join(lines))
