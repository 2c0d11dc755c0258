"""What all writers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ls_pipeline.domain.converters.choice import choose, finished, results_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ls_pipeline.domain.converters.choice import Annotation
    from ls_pipeline.domain.converters.folder import OutputFolder
    from ls_pipeline.domain.converters.lost import Losses
    from ls_pipeline.domain.converters.media import Media
    from ls_pipeline.domain.converters.shown import Classes, ShownConfig
    from ls_pipeline.domain.snapshot.formats import Annotations


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its chosen annotations."""

    id: Any
    data: Any
    annotations: Sequence[Annotation]
    document: Mapping[str, Any]
    """The task in Label Studio's export form."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a writer works with."""

    config: ShownConfig
    classes: Classes
    media: Media
    losses: Losses
    folder: OutputFolder


def write_tasks(
    writer: Writer,
    setup: Setup,
    documents: Iterable[Mapping[str, Any]],
    how: Annotations = "all",
    *,
    with_skipped: bool = False,
) -> None:
    """Write tasks, in Label Studio's export form, with the annotations that are chosen.

    Tasks without such annotations are left out, unless ``with_skipped``.
    """
    report = setup.losses.report
    for document in documents:
        setup.losses.begin(document.get("id"))
        annotations = finished(document)
        chosen = choose(annotations, how)
        report.not_chosen += len(annotations) - len(chosen)
        if not chosen and not (with_skipped and not annotations):
            report.skipped += 1
            continue
        report.tasks += 1
        report.results += sum(len(results_of(each)) for each in chosen)
        if how != "all":
            document = {**document, "annotations": chosen}  # noqa: PLW2901
        writer.add(Task(document.get("id"), document.get("data"), chosen, document))
    writer.finish()


class Writer(Protocol):
    """Writes tasks to a folder in one format, with one of them in memory at a time."""

    def add(self, task: Task) -> None:
        """Write a task."""

    def finish(self) -> None:
        """Write what comes after the last task."""
