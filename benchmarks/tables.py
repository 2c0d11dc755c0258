"""One large table: its first load, its load after a kill, and Label Studio's own sync beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contender import WrongResultError, run
from benchmarks.memory import BOUND
from benchmarks.report import Section
from benchmarks.table_contenders import GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = ("parquet", "csv")
NAMES = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON Lines"}
SYNCED = 10
"""Label Studio syncs a table with a tenth of the rows: it takes milliseconds for each."""

ABOUT = f"""A table is one object on moto, with a number and a sentence in each row; Parquet has
{GROUPS} row groups. Each line here is a process of its own. A run may take {BOUND} MB. CPU seconds
include Label Studio's. Its sync runs in its server, whose memory is not in the table; Label Studio
Community can't read Parquet, so JSON Lines is what to compare. "Without its import" means that
Label Studio answers at once and makes no tasks, so that only our part is measured."""

HEAD = """| | seconds | CPU seconds | peak memory | tasks | row groups read |
| --- | ---: | ---: | ---: | ---: | ---: |"""


def tables(url: str, server: int, rows: int, alone: int) -> Section:
    """Measure tables of ``rows`` rows, and our part alone of ``alone`` rows."""
    lines = [
        *_loads(url, server, max(rows // SYNCED, 10), after_kill=False),
        *_loads(url, server, rows, after_kill=True),
        *_syncs(url, server, max(rows // SYNCED, 10)),
        *_own_part(url, alone),
    ]
    return Section("One large table", f"{ABOUT}\n\n{HEAD}\n" + "\n".join(lines))


def _loads(url: str, server: int, rows: int, *, after_kill: bool) -> Iterator[str]:
    for kind, name in NAMES.items():
        title = f"{name}, {rows:,} rows"
        arguments = _filled(url, kind, rows)
        yield _line(f"{title}: our load", "load_table", arguments, server, rows)
        if after_kill:
            title = f"{title}: our load, after a kill at half of them"
            yield _line(title, "continue_table", arguments, server, rows)


def _own_part(url: str, rows: int) -> Iterator[str]:
    for kind in TABLES if rows else ():
        title = f"{NAMES[kind]}, {rows:,} rows: our load, without its import"
        yield _line(title, "load_table_alone", _filled(url, kind, rows), 0, 0)


def _syncs(url: str, server: int, rows: int) -> Iterator[str]:
    for kind, tasks in (("jsonl", rows), ("parquet", 0)):
        title = f"{NAMES[kind]}, {rows:,} rows: Label Studio's own sync"
        arguments = {"url": url, "kind": kind, "rows": rows}
        yield _line(title, "label_studio_table_sync", arguments, server, tasks)


def _filled(url: str, kind: str, rows: int) -> dict[str, Any]:
    arguments = {"url": url, "kind": kind, "rows": rows}
    run("fill_with_table", arguments)
    return arguments


def _line(title: str, function: str, arguments: dict[str, Any], server: int, tasks: int) -> str:
    print(f"Tables: {title}", flush=True)  # noqa: T201
    result, taken = run(function, arguments, server)
    print(f"  {result} {taken}", flush=True)  # noqa: T201
    if result["tasks"] != tasks:
        raise WrongResultError(f"{title}: {result} has not {tasks} tasks")
    is_sync = "status" in result
    memory = "" if is_sync else f"{taken.megabytes:.0f} MB"
    if not is_sync and taken.megabytes > BOUND:
        memory += ", **over the bound**"
    if is_sync and result["status"] != "completed":
        title += f" ({result['status']})"
    made = result.get("created", result["tasks"])
    cells = [title, f"{taken.seconds:.0f}", f"{taken.cpu_seconds:.0f}", memory, f"{made:,}"]
    cells.append(str(result["groups"]) if result.get("groups") else "")
    return f"| {' | '.join(cells)} |"
