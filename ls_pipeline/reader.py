"""Reading snapshots of training data, verified, in a training job.

::

    from ls_pipeline import open_snapshot

    snapshot = open_snapshot("s3://my-bucket/labels")
    results = snapshot.frame("results", split="train")
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import ObjectNotFoundError, SnapshotError
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.domain.snapshot.tables import SCHEMA_VERSION, TABLES, build_document, schema
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.model import Target, TargetParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow.dataset as ds

    from ls_pipeline.domain.snapshot.manifest import File, Manifest
    from ls_pipeline.resources.bucket import Readable

_PLACE = re.compile(r"(?:(?P<scheme>s3|gs)://(?P<bucket>[^/]+))?(?P<path>.*)", re.DOTALL)
_PINNED = re.compile(r"(?P<prefix>(?:.*/)?)training_data/snapshots/(?P<name>[^/]+)")


def open_snapshot(
    where: str | Path,
    name: str = "",
    *,
    params: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> Snapshot:
    """Open a snapshot, the newest unless ``name`` pins one.

    ``where`` is a target's folder, as in ``s3://bucket/prefix`` or ``gs://bucket/prefix``, one
    on disk with the same content, or a snapshot's own folder. ``params`` are a target's, as
    ``{"role_arn": …}``; credentials are found as AWS's and Google's tools find them. Files are
    fetched when they are first read, into ``cache`` (``~/.cache/ls_pipeline`` unless given),
    and their checksums compared each time.

    Raises ``SnapshotError`` when there is none, and ``BucketError`` when the bucket fails.
    """
    bucket, path = _bucket(str(where), params or {})
    pinned = _PINNED.fullmatch(path.strip("/"))
    prefix = path.strip("/")
    snapshots = Snapshots(bucket, prefix)
    if pinned:
        snapshots, name = Snapshots(bucket, pinned["prefix"].strip("/")), pinned["name"]
    elif prefix.split("/")[-1] == "training_data" and snapshots.latest()[0] is None:
        # The folder inside of a target's, not a target's own of that name.
        snapshots = Snapshots(bucket, prefix[: -len("training_data")].strip("/"))
    if not name:
        latest, _ = snapshots.latest()
        if latest is None:
            raise SnapshotError(
                f"There is no training data in {bucket.uri(prefix)}: materialize the asset "
                "training_data, or correct the place."
            )
        name = latest.snapshot
    manifest = snapshots.manifest(name)
    if int(manifest.schema_version) > int(SCHEMA_VERSION):
        raise SnapshotError(
            f"{snapshots.uri(name)} has schema version {manifest.schema_version}, newer than this "
            "ls_pipeline knows; upgrade it."
        )
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ls_pipeline"
    root = Path(cache) if cache else default
    place = hashlib.sha256(snapshots.uri(name).encode()).hexdigest()[:16]
    return Snapshot(snapshots, manifest, root / place / name)


@dataclass(frozen=True)
class Snapshot:
    """One snapshot: it never changes, and neither does what is read from it."""

    snapshots: Snapshots
    manifest: Manifest = field(repr=False)
    cache: Path

    @property
    def name(self) -> str:
        """What to write down to read exactly this again."""
        return self.manifest.snapshot

    @property
    def uri(self) -> str:
        """The snapshot's folder."""
        return self.snapshots.uri(self.name)

    def dataset(self, table: str, split: str | None = None) -> ds.Dataset:  # type: ignore[name-defined]
        """Give ``tasks``, ``annotations`` or ``results`` as a pyarrow dataset.

        Raises ``SnapshotError`` when a file is gone or damaged.
        """
        import pyarrow.dataset as ds

        if table not in TABLES:
            raise ValueError(f"there is no table {table!r}; there are {', '.join(TABLES)}")
        if split is not None and split not in SPLITS:
            raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
        files = [str(file) for file in self.files(table)]
        arrow: Any = ds  # it has no types
        found = arrow.dataset(files, schema=schema(table), format="parquet")
        return found if split is None else found.filter(arrow.field("split") == split)

    def frame(
        self, table: str, split: str | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Give a table, or some columns of it, as a pandas frame; raises as `dataset` does."""
        wanted = None if columns is None else list(columns)
        frame: pd.DataFrame = self.dataset(table, split).to_table(columns=wanted).to_pandas()
        return frame

    def files(self, table: str) -> list[Path]:
        """Give a table's files on this disk, fetched if need be, and verified."""
        return [self._fetched(file) for file in self.manifest.files(table)]

    def documents(self, split: str | None = None) -> Iterator[dict[str, Any]]:
        """Give each task with its annotations, in Label Studio's export form."""
        import pyarrow.parquet as pq

        pairs = zip(self.files("tasks"), self.files("annotations"), strict=True)
        for tasks, beside in pairs:
            mine: dict[int, list[dict[str, Any]]] = {}
            for row in pq.read_table(beside).to_pylist():  # type: ignore[no-untyped-call]
                mine.setdefault(row["task_id"], []).append(row)
            for task in pq.read_table(tasks).to_pylist():  # type: ignore[no-untyped-call]
                if split in (None, task["split"]):
                    yield build_document(task, mine.get(task["task_id"], ()))

    def _fetched(self, file: File) -> Path:
        if isinstance(self.snapshots.bucket, _Disk):
            self.snapshots.read(self.name, file)
            return self.snapshots.bucket.file(self.uri) / file.path
        kept = self.cache / file.path
        if kept.exists() and hashlib.sha256(kept.read_bytes()).hexdigest() == file.sha256:
            return kept
        body = self.snapshots.read(self.name, file)
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(f".{os.getpid()}")
        aside.write_bytes(body)
        aside.replace(kept)
        return kept


def _bucket(where: str, params: Mapping[str, Any]) -> tuple[Readable, str]:
    found = _PLACE.fullmatch(where)
    if found is None or not found["scheme"]:
        if "://" in where:
            raise SnapshotError(f"{where!r} is no place; give s3://…, gs://… or a folder.")
        return _Disk(), str(Path(where).absolute())
    if found["scheme"] == "s3":
        target = Target(type="s3-completions", path=found["bucket"], params=TargetParams(**params))
        return S3Buckets().bucket_of(target), found["path"]
    target = Target(type="gcs-completions", path=found["bucket"], params=TargetParams(**params))
    return GCSBuckets().bucket_of(target), found["path"]


class _Disk:
    """A disk, read as a bucket whose keys are paths without their first slash."""

    def file(self, key: str) -> Path:
        return Path("/") / key

    def uri(self, key: str = "") -> str:
        return str(self.file(key))

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        if self.file(prefix).is_file() and prefix > after:
            yield [StoredObject(prefix, "", self.file(prefix).stat().st_size)]

    def get(self, key: str, version: str = "") -> bytes:
        del version
        try:
            return self.file(key).read_bytes()
        except OSError as error:
            raise ObjectNotFoundError(self.uri(key)) from error
