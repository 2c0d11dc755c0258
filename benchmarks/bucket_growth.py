"""What a look and a pass cost as a bucket grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contender import Contender, in_turn, list_server, made_up_ledger
from benchmarks.report import Section

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = """With nothing new, at a server that answers at once. A look is a sensor's, a pass what a
run of `tasks` does."""


def growth(objects: int, repeats: int, folder: Path) -> Section:
    """Measure looks and passes at sizes each ten times the last; needs a Label Studio."""
    lines = [
        "| objects | a look: processor | memory | a pass: processor | memory | ledger, an object |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for size in sorted({max(objects // by, 10) for by in (1000, 100, 10, 1)}):
        print(f"Looks and passes at {size:,} objects", flush=True)  # noqa: T201
        file = made_up_ledger(size, folder)
        per_object = file.stat().st_size / size
        with list_server(size) as url:
            at = {"url": url, "ledger": f"sqlite:///{file}"}
            look = Contender("a look", "sensor", {**at, "new": [], "parallel": 1}, {"new": 0})
            whole = Contender("a pass", "pass_over_known", at, {"made": 0})
            in_turn([look, whole], repeats)
        cells = [f"{size:,}"]
        for one in (look, whole):
            cells += [f"{one.median('processor'):.3g} s", f"{one.median('megabytes'):.0f} MB"]
        cells += [f"{per_object:.0f} bytes"]
        lines.append(f"| {' | '.join(cells)} |")
    return Section("As a bucket grows", f"{ABOUT}\n\n" + "\n".join(lines))
