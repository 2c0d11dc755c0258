"""Who made the annotations of a task that comes from another Label Studio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.domain.tasks import Task

ANNOTATORS_KEY = "annotators"
"""The key of a task's ``meta`` with an entry for each annotation: its annotator as the object names
them, or null if they are a user here."""


def with_known_annotators(task: Task, users: Mapping[str, int]) -> tuple[Task, list[object]]:
    """Return a task to import, and its unknown annotators, which its ``meta`` names.

    ``users`` has ids by e-mail. Label Studio refuses an annotation of any other user, and takes
    one without ``completed_by`` as that of whoever imports it.
    """
    annotations, unknown = [], []
    for annotation in task.annotations:
        rest = {**annotation}
        annotator = rest.pop("completed_by", None)
        if user_id := _user_id(annotator, users):
            rest["completed_by"], annotator = user_id, None
        annotations.append(rest)
        unknown.append(annotator)
    meta = {ANNOTATORS_KEY: unknown, **task.meta} if any(unknown) else task.meta
    named = [annotator for annotator in unknown if annotator]
    return replace(task, annotations=annotations, meta=meta), named


def _user_id(annotator: Any, users: Mapping[str, int]) -> int | None:
    """Return the id of the user that an annotation names by id, e-mail, or an object with them."""
    if isinstance(annotator, dict):  # an id of another Label Studio is another person here
        annotator = annotator["email"] if "email" in annotator else annotator.get("id")
    if isinstance(annotator, str):
        return users.get(annotator.lower())
    is_id = type(annotator) is int and annotator in users.values()
    return annotator if is_id else None


def annotator_name(annotator: object) -> str:
    """Return how an annotator is called, in a sentence."""
    if isinstance(annotator, dict):
        annotator = annotator.get("email") or annotator.get("id")
    return str(annotator)
