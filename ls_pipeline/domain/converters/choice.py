"""Which annotations of a task a conversion uses, if several people labeled it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.snapshot.agreement import find_disagreements
from ls_pipeline.domain.snapshot.tables import result_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ls_pipeline.domain.snapshot.formats import Annotations

Annotation = dict[str, Any]
"""An annotation in Label Studio's export form."""


def finished(document: Mapping[str, Any]) -> list[Annotation]:
    """Return the annotations of a task that were not skipped."""
    annotations = document.get("annotations")
    found = annotations if isinstance(annotations, list) else []
    return [item for item in found if isinstance(item, dict) and not item.get("was_cancelled")]


def choose(annotations: Sequence[Annotation], how: Annotations) -> list[Annotation]:
    """Return the chosen annotations of a task, without skipped ones.

    ``majority`` returns one annotation with the results that more than half of the people made.
    """
    if how == "latest":
        return sorted(annotations, key=_time)[-1:]
    if how == "ground-truth":
        return [item for item in annotations if item.get("ground_truth")]
    if how == "majority" and len(annotations) > 1:
        return [_majority(annotations)]
    return list(annotations)


def results_of(annotation: Mapping[str, Any]) -> list[Any]:
    """Return the results of an annotation."""
    results = annotation.get("result")
    return results if isinstance(results, list) else []


def _is_relation(result: object) -> bool:
    return isinstance(result, dict) and result.get("type") == "relation"


def _time(annotation: Annotation) -> tuple[str, int]:
    time = annotation.get("updated_at") or annotation.get("created_at")
    number = annotation.get("id")
    return str(time or ""), number if isinstance(number, int) else 0


def _majority(annotations: Sequence[Annotation]) -> Annotation:
    plain = [
        [result for result in results_of(annotation) if not _is_relation(result)]
        for annotation in annotations
    ]
    rows = [[result_row(number, each) for number, each in enumerate(own)] for own in plain]
    lacking = find_disagreements(rows)
    # The annotation that agrees most comes first; the others add what it lacks.
    order = sorted(range(len(annotations)), key=lambda at: sum(map(len, lacking[at])))
    kept: list[Any] = []
    for position, at in enumerate(order):
        before = set(order[:position])
        for result, others in zip(plain[at], lacking[at], strict=True):
            if 2 * (len(annotations) - len(others)) > len(annotations) and before <= set(others):
                kept.append(result)
    ids = {str(result.get("id")) for result in kept if isinstance(result, dict)}
    everything = (result for annotation in annotations for result in results_of(annotation))
    relations = filter(_is_relation, everything)
    kept += [
        each for each in relations if {str(each.get(end)) for end in ("from_id", "to_id")} <= ids
    ]
    return {**annotations[order[0]], "result": kept}
