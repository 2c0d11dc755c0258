"""From completions to what a target holds: JSON documents, and their names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.manifest import training_folder
from ls_pipeline.domain.snapshot.tables import as_json

if TYPE_CHECKING:
    from ls_pipeline.domain.completions import Completion

_DOCUMENT = re.compile(r"[0-9]+\.json")


def completion_key(prefix: str, task_id: int) -> str:
    """Name the object that holds a task's completion: ``<prefix>/<task id>.json``."""
    return f"{folder(prefix)}{task_id}.json"


def is_completion_key(prefix: str, key: str) -> bool:
    """Tell whether ``key`` is one that `completion_key` gives for ``prefix``."""
    root = folder(prefix)
    return key.startswith(root) and bool(_DOCUMENT.fullmatch(key[len(root) :]))


def is_written_key(prefix: str, key: str) -> bool:
    """Tell whether ``key`` is one under which something is written to a target."""
    return is_completion_key(prefix, key) or key.startswith(training_folder(prefix))


def json_document(completion: Completion) -> bytes:
    """Write a completion as one JSON document, UTF-8, same input same bytes."""
    return (as_json(completion.document, indent=1) + "\n").encode()


TOMBSTONE = "deleted"
"""What stands for the digest of a task that was deleted in Label Studio."""


def tombstone(task_id: int) -> bytes:
    """Write what is left of a completion when its task was deleted in Label Studio."""
    return (
        json.dumps({"id": task_id, "deleted": True, "annotations": []}, indent=1) + "\n"
    ).encode()
