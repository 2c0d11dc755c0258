"""What a format can't hold: counted, and listed in ``lost.json``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.domain.converters.folder import OutputFolder

LOST_FILE = "lost.json"

What = Literal["lost", "simplified"]
"""Lost is what is not in the output. Simplified is what is in it in part, or in another form."""

MOST_REASONS = 3
"""Reasons that a sentence names."""


class Source(NamedTuple):
    """The result that something is about."""

    task_id: Any
    annotation_id: Any
    result_id: str
    number: int
    """Position among the annotation's results, from 0."""
    kind: str
    """Type of the result: rectanglelabels, relation, choices …"""
    owner: int = 0
    """What differs for each annotation of a task, also if they have no ids."""


def source_of(
    task_id: Any, annotation: Mapping[str, Any], number: int, result: Mapping[str, Any]
) -> Source:
    """Return the source of an annotation's result."""
    id_, kind = (str(result.get(name) or "") for name in ("id", "type"))
    return Source(task_id, annotation.get("id"), id_, number, kind, id(annotation))


@dataclass
class Report:
    """The counts of a conversion."""

    tasks: int = 0
    """Tasks in the output."""
    skipped: int = 0
    """Tasks without a finished annotation, which are not in the output."""
    results: int = 0
    """Results of the annotations that were chosen."""
    lost: int = 0
    """Results that are not in the output."""
    simplified: int = 0
    """Results that are in the output in part, or in another form."""
    not_chosen: int = 0
    """Annotations that ``--annotations`` left out."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Reason → results."""

    @property
    def is_complete(self) -> bool:
        """Whether the output has every result as it is."""
        return not self.lost and not self.simplified

    @property
    def sentence(self) -> str:
        """What the format could not hold, for people; empty if there is nothing."""
        counts = []
        if self.lost:
            counts.append(f"{self.lost} of {self.results} results are not in it")
        if self.simplified:
            counts.append(f"{self.simplified} of {self.results} results are simplified")
        if not counts:
            return ""
        reasons = [f"{count}: {why}" for why, count in self.reasons.most_common(MOST_REASONS)]
        if len(self.reasons) > MOST_REASONS:
            reasons.append("…")
        return f"{', and '.join(counts)} ({'; '.join(reasons)}). See {LOST_FILE}."

    def as_dict(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks,
            "skipped_tasks": self.skipped,
            "results": self.results,
            "lost": self.lost,
            "simplified": self.simplified,
            "annotations_not_chosen": self.not_chosen,
            "reasons": dict(self.reasons.most_common()),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Report:
        """Return the counts that a `LOST_FILE` has."""
        names = ("tasks", "results", "lost", "simplified")
        reasons: Mapping[str, Any] = document.get("reasons") or {}
        counts = {name: int(document.get(name) or 0) for name in names}
        return cls(
            **counts,
            skipped=int(document.get("skipped_tasks") or 0),
            not_chosen=int(document.get("annotations_not_chosen") or 0),
            reasons=Counter({str(why): int(count) for why, count in reasons.items()}),
        )


class Losses:
    """Counts what a format can't hold, and lists it on disk."""

    def __init__(self, folder: OutputFolder) -> None:
        self.report = Report()
        self._items = folder.spool()
        self._task: Any = None
        self._seen = set[tuple[object, ...]]()
        """What was counted of the current task, so that nothing is counted twice."""

    def begin(self, task_id: Any) -> None:
        """Begin with another task."""
        self._task, self._seen = task_id, set()

    def lose(self, source: Source, reason: str) -> None:
        """Count a result that is not in the output."""
        self._add("lost", source, reason)

    def simplify(self, source: Source, reason: str) -> None:
        """Count a result that is in the output in part, or in another form."""
        self._add("simplified", source, reason)

    def _add(self, what: What, source: Source, reason: str) -> None:
        place = (source.owner, source.number)
        if (*place, reason) in self._seen or (*place, "lost") in self._seen:
            return
        if (*place, what) not in self._seen:
            count = getattr(self.report, what)
            setattr(self.report, what, count + 1)
        if what == "lost" and (*place, "simplified") in self._seen:
            self.report.simplified -= 1
        self._seen |= {(*place, what), (*place, reason)}
        self.report.reasons[reason] += 1
        entry = {
            "what": what,
            "kind": source.kind,
            "task": source.task_id,
            "annotation": source.annotation_id,
            "result": source.result_id,
            "number": source.number,
            "reason": reason,
        }
        self._items.write(json.dumps(entry))

    def write(self, folder: OutputFolder, name: str, annotations: str) -> None:
        """Write `LOST_FILE`."""
        head = {"format": name, "annotations": annotations, **self.report.as_dict()}
        with folder.open(LOST_FILE) as stream:
            stream.write(json.dumps(head, indent=1)[:-2] + ',\n "items": [\n')
            self._items.copy_to(stream, ",\n")
            stream.write("\n ]\n}\n")
