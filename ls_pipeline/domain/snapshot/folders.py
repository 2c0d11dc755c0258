"""Folders that a training program reads as they are: pictures with their labels, by split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ls_pipeline.domain.snapshot.manifest import Name, training_folder

if TYPE_CHECKING:
    from ls_pipeline.domain.snapshot.splits import Split

FOLDERS = ("YOLO", "YOLO_OBB", "COCO")
"""The formats of folders."""

SPLIT_FOLDERS: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
"""What training programs call the splits."""

MEDIA_FILE = "media.jsonl"
"""Lists the pictures of a folder."""

MISSING_FILE = "missing.jsonl"
"""Lists the objects that are not in a folder, each with the reason."""

PROGRESS = "progress/"
"""What was copied so far, in a folder that is not complete."""

MARKER_BYTES = 64 * 1024
"""Maximum size of a marker."""

_FILE = re.compile(
    r"""(?:images|labels)/(?:train|val|test)/[0-9]+-[^/]+
    |annotations/instances_(?:train|val|test)\.json
    |data\.yaml|classes\.txt|(?:lost|folder)\.json|(?:media|missing)\.jsonl
    |progress/[0-9]+\.jsonl""",
    re.VERBOSE,
)


class Folder(BaseModel):
    """The content of ``folder.json``, which is written last and makes a folder complete."""

    model_config = ConfigDict(extra="allow", frozen=True)

    snapshot: Name
    format: str
    pictures: dict[str, int] = {}
    """Split → pictures."""
    picture_bytes: int = 0
    missing: int = 0
    """Objects that could not be read. Their tasks are left out."""
    missing_example: str = ""
    """Why the first of them could not be read."""
    annotations: str = "all"
    """Whose annotations were converted."""
    report: dict[str, Any] = {}
    """What the format can't hold, as in ``lost.json``."""
    leaks: int = 0
    """Pictures with the same bytes as one of another split."""
    leak_example: list[str] = []
    """The paths of two such pictures."""

    def as_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()


def datasets_folder(prefix: str, snapshot: str) -> str:
    """Return the folder of all formats: ``<prefix>/training_data/datasets/<snapshot>/``."""
    return f"{training_folder(prefix)}datasets/{snapshot}/"


def dataset_folder(prefix: str, snapshot: str, name: str) -> str:
    """Return the folder of a snapshot in one format."""
    return f"{datasets_folder(prefix, snapshot)}{name.lower()}/"


def marker_key(prefix: str, snapshot: str, name: str) -> str:
    """Return the key of the object that makes a folder complete."""
    return f"{dataset_folder(prefix, snapshot, name)}folder.json"


def is_folder_file(path: str) -> bool:
    """Return whether a path, relative to `datasets_folder`, is that of a file of ours."""
    name, _, rest = path.partition("/")
    return name.upper() in FOLDERS and bool(_FILE.fullmatch(rest))
