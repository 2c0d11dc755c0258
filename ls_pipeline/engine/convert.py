"""Converts a snapshot to other formats: one archive each, next to the snapshots.

Next to each archive is what its format could not hold, as ``lost.json`` in it says, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.converters.lost import LOST_FILE, Report
from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.manifest import archive_path, formats_folder
from ls_pipeline.reader import Snapshot
from ls_pipeline.resources.converter import convert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.domain.snapshot.formats import Annotations
    from ls_pipeline.domain.snapshot.manifest import Manifest
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.converter import Fetch
    from ls_pipeline.resources.snapshots import Snapshots

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first day that a zip archive knows: its content must not depend on the time of writing."""

HEAD_BYTES = 64 * 1024
"""Bytes of a list of losses that have its counts."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a snapshot in one format."""

    outcome: str
    """The archive's URI, or why there is none."""
    report: Report | None = None
    """What the format could not hold; None without an archive."""


class _Archive(NamedTuple):
    """An archive, its list of losses, and their counts."""

    file: Path
    lost: Path
    report: Report


def convert_snapshot(
    bucket: Bucket,
    snapshots: Snapshots,
    manifest: Manifest,
    formats: Sequence[str],
    annotations: Annotations = "all",
    measure: Fetch | None = None,
) -> dict[str, Conversion]:
    """Write a snapshot in other formats, unless it exists.

    ``measure`` downloads recordings for their durations. A format that does not fit stops no other.
    Raises ``ExternalSystemError`` if the bucket fails.
    """
    conversions = {}
    root = formats_folder(snapshots.prefix, manifest.snapshot)
    for name in formats:
        key = root + archive_path(name, annotations)
        lost_key = root + archive_path(name, annotations, "lost.json")
        if bucket.find(key) and (lost := bucket.find(lost_key)):
            conversions[name] = Conversion(bucket.uri(key), _read_report(bucket, lost))
            continue
        try:
            with _archive(snapshots, manifest, name, annotations, measure) as archive:
                bucket.put_file(lost_key, archive.lost, "application/json")
                bucket.put_file(key, archive.file, "application/zip")
        except FormatError as error:
            conversions[name] = Conversion(str(error))
            continue
        conversions[name] = Conversion(bucket.uri(key), archive.report)
    return conversions


def _read_report(bucket: Bucket, stored: StoredObject) -> Report:
    """Return the counts at the start of a list of losses."""
    with tempfile.TemporaryFile() as file:
        bucket.download(stored, file)
        file.seek(0)
        head = file.read(HEAD_BYTES).decode(errors="replace")
    counts, found, _ = head.partition(',\n "items"')
    try:
        return Report.from_dict(json.loads(counts + "}") if found else {})
    except (ValueError, TypeError, AttributeError):  # someone else wrote it
        return Report()


@contextmanager
def _archive(
    snapshots: Snapshots,
    manifest: Manifest,
    name: str,
    annotations: Annotations,
    measure: Fetch | None,
) -> Iterator[_Archive]:
    """Yield an archive. It and what it is made of are on disk, not in memory."""
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder), Path(folder, "output")
        documents = Snapshot(snapshots, manifest, root / "snapshot").documents()
        report = convert(
            documents,
            manifest.label_config,
            name,
            output,
            annotations=annotations,
            classes=manifest.class_list,
            measure=measure,
        )
        with zipfile.ZipFile(root / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(output.rglob("*")):
                if path.is_file():
                    entry = zipfile.ZipInfo(str(path.relative_to(output)), _LONG_AGO)
                    entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, path.stat().st_size
                    with path.open("rb") as content, archive.open(entry, "w") as stream:
                        shutil.copyfileobj(content, stream)
        yield _Archive(root / "archive.zip", output / LOST_FILE, report)
