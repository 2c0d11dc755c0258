"""What `ls-pipeline connections rebind` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.mass_change import FEWEST
from ls_pipeline.engine.rebind import Choice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.engine.rebind import Findings


def describe(findings: Findings, name: str, title: str) -> Iterator[str]:
    """Return what differs, what there is, and what a person may choose, line by line.

    ``title`` is that of a project to create.
    """
    if findings.differences:
        yield f"Connection {name!r} does not fit what its ledger knows:"
        yield from (f"  {difference}" for difference in findings.differences)
        yield "It would go on with:"
        for project in findings.projects.values():
            yield f"  project {project.title!r}, {project.url}"
        if not findings.projects:
            yield f"  a new project {title!r}, which the next run creates"
    else:
        yield "Nothing differs: the projects and the target are those that the ledger knows."
    yield from findings.notes
    yield from _counts(findings)
    if findings.choices:
        yield "You can choose:"
    for choice in findings.choices:
        yield f"  --{choice.value}"
        yield f"      {consequence(findings, choice)}"


def _counts(findings: Findings) -> Iterator[str]:
    if findings.missing:
        yield (
            f"{findings.missing:,} of {_count(findings.known, 'task')} that the ledger knows "
            f"{'does' if findings.missing == 1 else 'do'} not exist in Label Studio."
        )
    if findings.missing_files:
        yield (
            f"{_count(findings.missing_files, 'file')} in the target may hold labels of tasks "
            "that do not exist in Label Studio."
        )
    if findings.outdated_files:
        yield (
            f"{_count(findings.outdated_files, 'file')} in the target may hold more labels than "
            "their tasks have. The next export replaces them by what Label Studio has: copy them "
            "before, if you need these labels."
        )


def consequence(findings: Findings, choice: Choice) -> str:
    """Return what a choice would do, in sentences."""
    return " ".join(_CONSEQUENCES[choice](findings))


def _take_over(findings: Findings) -> Iterator[str]:
    yield (
        "This installation goes on, and loads and exports what differs. The other one stops at "
        "its next change."
    )
    if findings.missing or findings.missing_files:
        yield from _forgotten(findings)


def _reload(findings: Findings) -> Iterator[str]:
    if findings.is_claimed:
        yield "This installation goes on. The other one stops at its next change."
    if findings.missing:
        tasks = _count(findings.missing, "missing task")
        yield (
            f"The next run loads the {tasks} again, if the objects are still in the source. Tasks "
            "that people deleted are among them."
        )
    else:
        yield "No task is missing, so none is loaded again."
    if findings.missing_files:
        yield (
            f"The {_count(findings.missing_files, 'file')} of missing tasks stay as they are. A "
            "file is replaced only if a new task gets its number and is labeled. The next snapshot "
            "of training data is without them."
        )


def _forgotten(findings: Findings) -> Iterator[str]:
    if findings.missing:
        tasks = _count(findings.missing, "missing task")
        yield f"The {tasks} count as deleted by a person: none is loaded until its object changes."
    else:
        yield "No task is missing."
    if findings.missing_files:
        yield (
            f"The next export replaces the {_count(findings.missing_files, 'file')} of missing "
            "tasks by tombstones, or deletes them if the target has `delete`."
        )
    if findings.missing_files >= FEWEST:
        yield "If these are most of the files, it waits for --allow-mass-change."


_CONSEQUENCES = {
    Choice.TAKE_OVER: _take_over,
    Choice.RELOAD: _reload,
    Choice.FORGET: _forgotten,
}


def next_step(findings: Findings, choice: Choice, name: str) -> str:
    """Return what was done, and what comes next."""
    tasks = _count(findings.missing, "task")
    done = {
        Choice.TAKE_OVER: "was taken over",
        Choice.RELOAD: f"was rebound, and {tasks} will be loaded again",
        Choice.FORGET: f"was rebound, and {tasks} count as deleted",
    }[choice]
    return f"Connection {name!r} {done}. Run `ls-pipeline sync {name}`, or wait for the sensors."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
