"""Read verified snapshots of training data in a training job.

::

    from ls_pipeline import open_snapshot

    snapshot = open_snapshot("s3://my-bucket/labels")
    results = snapshot.frame("results", split="train")
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ls_pipeline.domain.errors import ObjectNotFoundError, SnapshotError
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.snapshot.media import TASK_COLUMNS, MediaKeys
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.domain.snapshot.tables import (
    COLUMNS,
    LINEAGE,
    SCHEMA_VERSION,
    TABLES,
    build_document,
    schema,
)
from ls_pipeline.resources.client_cache import OncePerKey
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.hugging_face import TaskDataset
from ls_pipeline.resources.media_cache import MediaCache
from ls_pipeline.resources.private_files import create_private_folder
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.model import Target
from ls_pipeline.settings.validation import check_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import datasets
    import pandas as pd
    import pyarrow.dataset as ds

    from ls_pipeline.domain.snapshot.manifest import File, Manifest
    from ls_pipeline.domain.snapshot.media import MediaObject
    from ls_pipeline.resources.bucket import Bucket, Readable
    from ls_pipeline.resources.media_cache import LocalMedia

MISSING_AT_MOST = 10
"""Objects that an error lists."""

_SNAPSHOT = re.compile(r"(?P<prefix>(?:.*/)?)training_data/snapshots/(?P<name>[^/]+)")


def open_snapshot(
    where: str | Path,
    name: str = "",
    *,
    params: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> Snapshot:
    """Open the newest snapshot, or the one called ``name``.

    ``where`` is a target's folder (``s3://bucket/prefix`` or ``gs://bucket/prefix``), a copy of it
    on disk, or the folder of one snapshot. ``params`` are a target's, as ``{"role_arn": …}``;
    credentials are found as AWS's and Google's own tools find them. Files are fetched into
    ``cache`` (default ``~/.cache/ls_pipeline``) at first use, and verified at every use.

    Raises ``SnapshotError`` without a snapshot, if it is damaged, or if ``params`` are wrong,
    and ``BucketError`` if the bucket fails.
    """
    bucket, path = _open_bucket(str(where), params or {})
    return open_in(bucket, path.strip("/"), name, params=params, cache=cache)


def open_in(
    bucket: Readable,
    path: str,
    name: str = "",
    *,
    params: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> Snapshot:
    """Open a snapshot as `open_snapshot` does, in a folder of a bucket that is open already."""
    snapshots, name = _find_snapshot(bucket, path, name)
    manifest = snapshots.manifest(name)
    if int(manifest.schema_version) > int(SCHEMA_VERSION):
        raise SnapshotError(
            f"{snapshots.uri(name)} has schema version {manifest.schema_version}, which is newer "
            "than this ls_pipeline supports.",
            hint="Upgrade ls_pipeline.",
        )
    location = hashlib.sha256(snapshots.uri(name).encode()).hexdigest()[:16]
    folder = Path(cache or _default_cache()) / location / name
    return Snapshot(snapshots, manifest, folder, params or {})


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ls_pipeline"


def _find_snapshot(bucket: Readable, path: str, name: str) -> tuple[Snapshots, str]:
    if folder := _SNAPSHOT.fullmatch(path):
        return Snapshots(bucket, folder["prefix"].strip("/")), folder["name"]
    snapshots = Snapshots(bucket, path)
    if path.rpartition("/")[2] == "training_data" and snapshots.latest()[0] is None:
        # The folder that ls_pipeline makes in a target's folder, not a target's folder itself.
        snapshots = Snapshots(bucket, path[: -len("training_data")].strip("/"))
    if name:
        return snapshots, name
    latest, _ = snapshots.latest()
    if latest is None:
        raise SnapshotError(
            f"There is no training data in {bucket.uri(path)}.",
            hint="Materialize the asset training_data, or correct the path.",
        )
    return snapshots, latest.snapshot


def _open_bucket(where: str, params: Mapping[str, Any]) -> tuple[Readable, str]:
    scheme, separator, place = where.partition("://")
    if not separator:
        return _Disk(), str(Path(where).absolute())
    bucket, _, path = place.partition("/")
    if scheme not in {"s3", "gs"} or not bucket:
        raise SnapshotError(
            f"{where!r} is not the location of a snapshot.",
            hint="Use s3://…, gs://… or a folder.",
        )
    return _open_bucket_of(f"{scheme}://{bucket}", params), path


def _open_bucket_of(root: str, params: Mapping[str, Any]) -> Bucket:
    """Open the bucket of a URI, as a target with these params."""
    scheme, _, name = root.partition("://")
    is_s3 = scheme == "s3"
    errors: list[str] = []
    kind = "s3-completions" if is_s3 else "gcs-completions"
    target = check_side(Target, {"type": kind, "path": name, "params": params}, errors)
    if target is None:
        raise SnapshotError(" ".join(errors))
    return (S3Buckets() if is_s3 else GCSBuckets()).bucket_of(target)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, which never changes; so every read returns the same."""

    snapshots: Snapshots
    manifest: Manifest = field(repr=False)
    cache: Path
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name that `open_snapshot` takes to open exactly this snapshot again."""
        return self.manifest.snapshot

    @property
    def uri(self) -> str:
        """The URI of the snapshot's folder."""
        return self.snapshots.uri(self.name)

    def dataset(self, table: str, split: str | None = None) -> ds.Dataset:  # type: ignore[name-defined]
        """Return ``tasks``, ``annotations`` or ``results`` as a pyarrow dataset.

        Raises ``SnapshotError`` if a file is missing or damaged.
        """
        import pyarrow.dataset as ds

        if table not in TABLES:
            raise ValueError(f"there is no table {table!r}; there are {', '.join(TABLES)}")
        _check_split(split)
        arrow: Any = ds  # it has no types
        files = [str(file) for file in self.files(table)]
        dataset = arrow.dataset(files, schema=schema(table), format="parquet")
        return dataset if split is None else dataset.filter(arrow.field("split") == split)

    def frame(
        self, table: str, split: str | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return a table, or some of its columns, as a pandas frame; raises as `dataset` does."""
        names = None if columns is None else list(columns)
        frame: pd.DataFrame = self.dataset(table, split).to_table(columns=names).to_pandas()
        return frame

    def files(self, table: str) -> list[Path]:
        """Return a table's verified files on disk, after fetching the missing ones."""
        return [self._fetch(file) for file in self.manifest.files(table)]

    def documents(self, split: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield each task with its annotations, in Label Studio's export form.

        One row group of a file is in memory at a time. Raises as `dataset` does.
        """
        parts = zip(self.files("tasks"), self.files("annotations"), strict=True)
        for task_file, annotation_file in parts:
            annotations = groupby(_rows(annotation_file), key=itemgetter("task_id"))
            task_id, own = next(annotations, (None, ()))
            for task in _rows(task_file):  # both are in the order of task ids
                has_own = task["task_id"] == task_id
                if split in (None, task["split"]):
                    yield build_document(task, own if has_own else ())
                if has_own:
                    task_id, own = next(annotations, (None, ()))

    def media(
        self,
        split: str | None = None,
        *,
        buckets: Sequence[str] = (),
        skip_missing: bool = False,
    ) -> list[LocalMedia]:
        """Return the pictures, recordings and the like of tasks on disk, ordered by task.

        They are what the label config shows, in the version that was labeled if the task is of a
        blob. They are fetched once, in parallel, from the snapshot's own bucket and from
        ``buckets``, as in ``["s3://pictures"]``: people who can add tasks choose the addresses.
        Other buckets of the same cloud are read with the snapshot's ``params``.

        Raises ``SnapshotError`` if any can't be read, unless ``skip_missing`` leaves them out.
        """
        _check_split(split)
        self._create_cache()
        pins, root = self.cache / "media.json", self.cache.parent.parent / "media"
        media = MediaCache(root, pins, _media_buckets(self, buckets))
        files = media.fetch(self._media_objects(split))
        if media.missing and not skip_missing:
            raise SnapshotError(
                f"{len(media.missing)} media objects of {self.uri} can't be read.",
                hint="Name other buckets in buckets, or leave them out with skip_missing.",
                details=list(media.missing.values())[:MISSING_AT_MOST],
            )
        return files

    def to_datasets(
        self,
        split: str | None = None,
        *,
        media: bool = False,
        buckets: Sequence[str] = (),
        skip_missing: bool = False,
    ) -> datasets.Dataset:
        """Return tasks as a dataset of Hugging Face's library ``datasets``, one row per task.

        ``results`` is a list with the columns of the table of that name. Each data key that the
        label config shows is a column: with ``media``, pictures and recordings are features
        ``Image`` and ``Audio`` over files on disk, as `media` returns them; a missing one is null.

        Raises ``SnapshotError`` as `media` does, and if ``datasets`` is not installed.
        """
        _check_split(split)
        paths: dict[tuple[int, str], list[str]] = {}
        if media:
            for file in self.media(split, buckets=buckets, skip_missing=skip_missing):
                paths.setdefault((file.task_id, file.data_key), []).append(str(file.path))
        dataset = TaskDataset(MediaKeys(self.manifest.label_config).keys, paths if media else None)
        self._create_cache()
        name = f"{split or 'all'}{'-media' if media else ''}.arrow"
        return dataset.write(self._tasks_with_results(split), self.cache / "datasets" / name)

    def _tasks_with_results(
        self, split: str | None
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        columns = [name for name in COLUMNS["results"] if name not in LINEAGE]
        parts = zip(self.files("tasks"), self.files("results"), strict=True)
        for task_file, result_file in parts:
            results = groupby(_rows(result_file), key=itemgetter("task_id"))
            task_id, own = next(results, (None, iter(())))
            for task in _rows(task_file, [*LINEAGE, "data"]):  # both are in the order of task ids
                rows = []
                if task["task_id"] == task_id:
                    rows = [{name: row[name] for name in columns} for row in own]
                    task_id, own = next(results, (None, iter(())))
                if split in (None, task["split"]):
                    yield task, rows

    def _media_objects(self, split: str | None) -> Iterator[MediaObject]:
        keys = MediaKeys(self.manifest.label_config)
        for file in self.files("tasks"):
            for task in _rows(file, TASK_COLUMNS):
                if split in (None, task["split"]):
                    yield from keys.objects(task)

    def _create_cache(self) -> None:
        if _default_cache() in self.cache.parents:
            create_private_folder(_default_cache())

    def _fetch(self, file: File) -> Path:
        bucket = self.snapshots.bucket
        if isinstance(bucket, _Disk):
            path = bucket.file(self.uri) / file.path
            self.snapshots.verify(self.name, file, path)
        else:
            path = self.cache / file.path
            self._create_cache()
            self.snapshots.fetch(self.name, file, path)
        return path


def _check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")


def _media_buckets(snapshot: Snapshot, others: Sequence[str]) -> Callable[[str], Bucket | None]:
    """Return what opens a bucket by its URI, or returns None if no media may be read there."""
    for name in others:
        if not re.fullmatch("(s3|gs)://[^/]+/?", name):
            raise SnapshotError(f"{name!r} is not a bucket, as in s3://pictures.")
    own = re.match("(s3|gs)://[^/]+", snapshot.uri)
    allowed = {name.rstrip("/") for name in others} | ({own[0]} if own else set())
    opened: OncePerKey[str, Bucket] = OncePerKey()

    def get(name: str) -> Bucket | None:
        if name not in allowed:
            return None
        is_alike = own is not None and name.startswith(own[1])
        params = snapshot.params if is_alike else {}
        return opened.get(name, lambda: _open_bucket_of(name, params))

    return get


def _rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, with one row group in memory at a time."""
    import pyarrow.parquet as pq

    opened: Any = pq  # it has no types
    with opened.ParquetFile(file) as parquet:
        for number in range(parquet.num_row_groups):
            yield from parquet.read_row_group(number, columns=columns).to_pylist()


class _Disk:
    """A disk as a bucket whose keys are absolute paths without the first slash."""

    def file(self, key: str) -> Path:
        return Path("/") / key

    def uri(self, key: str = "") -> str:
        return str(self.file(key))

    def pages(self, prefix: str = "", after: str = "") -> Iterator[list[StoredObject]]:
        if self.file(prefix).is_file() and prefix > after:
            yield [StoredObject(prefix, "", self.file(prefix).stat().st_size)]

    def get(self, key: str, version: str = "") -> bytes:
        del version
        with self._open(key) as stream:
            return stream.read()

    def download(self, stored: StoredObject, file: BinaryIO) -> None:
        with self._open(stored.key) as stream:
            shutil.copyfileobj(stream, file)

    def _open(self, key: str) -> BinaryIO:
        try:
            return self.file(key).open("rb")
        except OSError as error:
            raise ObjectNotFoundError(self.uri(key)) from error
