"""The files that a target holds: their keys and their JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.manifest import training_folder
from ls_pipeline.domain.snapshot.tables import as_json

if TYPE_CHECKING:
    from ls_pipeline.domain.completions import Completion

TOMBSTONE = "deleted"
"""The digest of the file of a task that was deleted in Label Studio."""

LEFT_ALONE = "left alone"
"""The digest of a file that stays as it is although its task is gone; it may have any content."""

_FILE_NAME = re.compile(r"(?:0|[1-9][0-9]{0,17})\.json")


def completion_key(prefix: str, task_id: int) -> str:
    """Return the key of a task's completion: ``<prefix>/<task id>.json``."""
    return f"{folder(prefix)}{task_id}.json"


def is_completion_key(prefix: str, key: str) -> bool:
    """Return whether ``key`` is one that `completion_key` returns for ``prefix``."""
    root = folder(prefix)
    return key.startswith(root) and bool(_FILE_NAME.fullmatch(key[len(root) :]))


def is_written_key(prefix: str, key: str) -> bool:
    """Return whether ls_pipeline writes objects with such a key to a target."""
    return is_completion_key(prefix, key) or key.startswith(training_folder(prefix))


def json_document(completion: Completion) -> bytes:
    """Return a completion as UTF-8 JSON; the same completion makes the same bytes.

    Each field of the task has a line. To indent all levels would take Python far more memory.
    """
    fields = (f"{as_json(name)}: {as_json(value)}" for name, value in completion.document.items())
    return ("{\n " + ",\n ".join(fields) + "\n}\n").encode()


def tombstone(task_id: int) -> bytes:
    """Return what replaces a completion if its task was deleted in Label Studio."""
    document = {"id": task_id, "deleted": True, "annotations": []}
    return (json.dumps(document, indent=1) + "\n").encode()
