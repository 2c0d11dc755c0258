"""Downloads the pictures and recordings that tasks name, from known buckets only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import (
    BucketAccessError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.model import Source, Target

MOST = 5
"""Buckets that a sentence names, at most."""


@dataclass
class ImageDownloads:
    """Downloads images from the buckets of ``sides``, each with its params, and from no other."""

    open_bucket: Callable[[Source | Target], Bucket]
    sides: Sequence[Source | Target]
    advance: Callable[[int], None]
    done: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)
    """URIs of other buckets, with the number of their images."""
    failed: dict[str, str] = field(default_factory=dict)
    """URIs of images that could not be read, with the reasons."""

    def fetch(self, uri: str, file: Path) -> bool:
        """Download an image to a file, if it is in one of the buckets and can be read."""
        side = next((side for side in self.sides if uri.startswith(side.root)), None)
        if side is None:
            self.elsewhere["/".join(uri.split("/")[:3])] += 1
            return False
        stored = StoredObject(uri[len(side.root) :], "", 0)
        try:
            with file.open("wb") as stream:
                self.open_bucket(side).download(stored, stream)
        except (BucketAccessError, ObjectNotFoundError, ObjectRefusedError) as error:
            file.unlink()
            self.failed[uri] = str(error)
            return False
        self.done += 1
        self.advance(self.done)
        return True

    @property
    def missing(self) -> dict[str, str]:
        """What was not downloaded, and why: buckets, and images."""
        why = "{} images there were not downloaded. Add --images-from {} if they should be."
        elsewhere = {bucket: why.format(n, bucket) for bucket, n in sorted(self.elsewhere.items())}
        return {**elsewhere, **self.failed}

    @property
    def sentence(self) -> str:
        """What was not downloaded, for people."""
        count = sum(self.elsewhere.values()) + len(self.failed)
        sentences = [f"{count} images were not downloaded, and are named by their URIs."]
        if self.elsewhere:
            options = " ".join(
                f"--images-from {bucket}" for bucket in sorted(self.elsewhere)[:MOST]
            )
            sentences.append(f"Those in other buckets need {options}.")
        if self.failed:
            sentences.append(next(iter(self.failed.values())))
        return " ".join(sentences)
