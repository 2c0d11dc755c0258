"""What a run over a source did, and what it notes about many objects at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.domain.notes import Notes, quoted
from ls_pipeline.domain.objects import opens_in_browsers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.domain.diff import Change
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.manifest import Manifest

LONE_SIDECARS = 1000
"""New sidecars that a run looks up at its end, to name those that wait for their objects."""


@dataclass
class LoadResult:
    """What a run over a source did, for people to read."""

    changes: Counter[Change] = field(default_factory=Counter)
    tasks_created: int = 0
    tasks_updated: int = 0
    tasks_deleted: int = 0
    tasks_kept: int = 0
    """Tasks that stay as they are though their object changed or is gone: a person has worked on
    them, or the source ignores changes."""
    listed: int = 0
    """Objects below the prefix."""
    filtered: int = 0
    """Objects below the prefix that are not known and that the filter leaves out."""
    pending: int = 0
    """Objects that are not known and were not read this time: they changed or went in between."""
    first_new: list[StoredObject] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Objects that could not be read this time, each a sentence."""
    notes: Notes = field(default_factory=Notes)
    """What a person should know although the run succeeded."""


class LoadNotes:
    """Gathers, while objects are loaded, what a person should know of them."""

    def __init__(self, run: RunContext) -> None:
        self._run, self._uri = run, run.bucket.uri
        self._select = run.source.params.filter
        self._shows_blobs = run.source.params.use_blob_urls
        self._new_sidecars: list[str] = []
        self._unknown_forms = self._unopenable = 0
        self._first_unknown = self._first_unopenable = ""

    def add_new(self, listed: StoredObject) -> None:
        """Take an object that is new in the bucket."""
        if self._select.is_sidecar(listed.key) and len(self._new_sidecars) < LONE_SIDECARS:
            self._new_sidecars.append(listed.key)

    def add_key(self, key: str) -> None:
        """Take the key of an object that is loaded."""
        is_blob = self._shows_blobs and not self._select.is_sidecar(key)
        if is_blob and not opens_in_browsers(key):
            self._unopenable += 1
            self._first_unopenable = self._first_unopenable or self._uri(key)

    def add_unknown_form(self, key: str) -> None:
        """Take the key of an object that has no form that is read."""
        self._unknown_forms += 1
        self._first_unknown = self._first_unknown or self._uri(key)

    def sentences(self) -> Iterator[str]:
        """Return it in sentences."""
        if self._unknown_forms and not self._run.held.objects.has_tasks():
            noun = "object" if self._unknown_forms == 1 else "objects"
            yield (
                f"Nothing is loaded: {self._unknown_forms:,} {noun}, such as "
                f"{self._first_unknown}, have no form that is read as tasks. Set the param format, "
                "or use_blob_urls to show them by their URL."
            )
        if self._unopenable:
            noun = "blob" if self._unopenable == 1 else "blobs"
            yield (
                f"Label Studio can't open {self._unopenable:,} {noun}, such as "
                f"{quoted(self._first_unopenable)}: the key has a ?, a line break, or a / at its "
                "start. Rename the objects, or leave them out with the param exclude."
            )
        if lone := self._run.held.sidecars.without_object(self._new_sidecars):
            others = len(lone) - 1
            more = f", and so do {others:,} others" if others else ""
            yield f"The sidecar {self._uri(lone[0])} waits for its object{more}."


def note_of_unlisted(manifest: Manifest) -> Iterator[str]:
    """Return a sentence if a manifest lists keys that no object of the source has.

    All objects were compared with it.
    """
    count, first = manifest.unseen()
    if count:
        others = f" and {count - 1:,} more" if count > 1 else ""
        yield (
            f"The manifest {manifest.uri} lists {quoted(first)}{others}, and no such object is "
            "selected from the bucket."
        )
