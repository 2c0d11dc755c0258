"""Converts a snapshot to other formats: one archive each, next to the snapshots."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.manifest import formats_folder
from ls_pipeline.reader import Snapshot
from ls_pipeline.resources.converter import convert

if TYPE_CHECKING:
    from collections.abc import Sequence

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
                body = _archive(snapshots, manifest, name)
            except FormatError as error:
                outcomes[name] = str(error)
                continue
            bucket.put(key, body, "application/zip")
        outcomes[name] = bucket.uri(key)
    return outcomes


def _archive(snapshots: Snapshots, manifest: Manifest, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        documents = Snapshot(snapshots, manifest, root / "snapshot").documents()
        convert(documents, manifest.label_config, name, root / "out")
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((root / "out").rglob("*")):
                if path.is_file():
                    entry = zipfile.ZipInfo(str(path.relative_to(root / "out")), _LONG_AGO)
                    archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        return file.getvalue()
