"""The CPU time of processes and their descendants, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path


def process_tree(root: int) -> set[int]:
    """Return the ids of a process and all its descendants."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        parents[int(file.parent.name)] = int(fields[1])
    tree = {root}
    while children := {process for process in parents if parents[process] in tree} - tree:
        tree |= children
    return tree


def cpu_seconds_of(root: int) -> float:
    """Return the CPU seconds of a process and its descendants; 0 for process 0."""
    if not root:
        return 0.0
    clock_ticks = 0
    for process in process_tree(root):
        try:
            stat = Path("/proc", str(process), "stat").read_text(encoding="utf-8")
        except OSError:  # it ended
            continue
        clock_ticks += clock_ticks_in(stat)
    return clock_ticks / os.sysconf("SC_CLK_TCK")


def clock_ticks_in(stat: str) -> int:
    """Return the clock ticks in a ``/proc/…/stat``: of the process and its ended children."""
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))
