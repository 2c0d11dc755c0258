"""Converts a snapshot to other formats: one archive each, next to the snapshots."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.manifest import formats_folder
from ls_pipeline.reader import Snapshot
from ls_pipeline.resources.converter import convert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.domain.snapshot.manifest import Manifest
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.snapshots import Snapshots

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first day that a zip archive knows: its content must not depend on the time of writing."""


def archive_key(prefix: str, snapshot: str, name: str) -> str:
    """Return the key of a snapshot in one format."""
    return f"{formats_folder(prefix, snapshot)}{name}.zip"


def convert_snapshot(
    bucket: Bucket, snapshots: Snapshots, manifest: Manifest, formats: Sequence[str]
) -> dict[str, str]:
    """Write a snapshot in other formats, unless it exists; return each one's URI or its error.

    A format that does not fit stops no other. Raises ``ExternalSystemError`` if the bucket fails.
    """
    outcomes = {}
    for name in formats:
        key = archive_key(snapshots.prefix, manifest.snapshot, name)
        if next((page for page in bucket.pages(key)), None) is None:
            try:
                with _archive(snapshots, manifest, name) as file:
                    bucket.put_file(key, file, "application/zip")
            except FormatError as error:
                outcomes[name] = str(error)
                continue
        outcomes[name] = bucket.uri(key)
    return outcomes


@contextmanager
def _archive(snapshots: Snapshots, manifest: Manifest, name: str) -> Iterator[Path]:
    """Yield the file of an archive. It and what it is made of are on disk, not in memory."""
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder), Path(folder, "output")
        documents = Snapshot(snapshots, manifest, root / "snapshot").documents()
        classes = manifest.class_list
        convert(documents, manifest.label_config, name, output, classes=classes)
        with zipfile.ZipFile(root / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(output.rglob("*")):
                if path.is_file():
                    entry = zipfile.ZipInfo(str(path.relative_to(output)), _LONG_AGO)
                    entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, path.stat().st_size
                    with path.open("rb") as content, archive.open(entry, "w") as stream:
                        shutil.copyfileobj(content, stream)
        yield root / "archive.zip"
