"""One snapshot of training data: what changed is read, the rest is copied inside the bucket.

All files are written under the snapshot's own name, then seen to be there, then comes its
manifest, and last ``latest.json`` moves: whoever reads sees the old snapshot or the new one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    SnapshotError,
)
from ls_pipeline.domain.snapshot.manifest import (
    Changes,
    File,
    Latest,
    Manifest,
    Part,
    expired,
    formats_folder,
    latest_key,
    manifest_key,
    snapshot_folder,
    snapshot_name,
)
from ls_pipeline.domain.snapshot.parts import (
    PART_TASKS,
    add_tallies,
    describe_file,
    failed_checks,
    merge_tables,
    part_digest,
    read_parquet,
    tally_part,
    to_table,
    write_parquet,
)
from ls_pipeline.domain.snapshot.tables import SCHEMA_VERSION, TABLES, table_rows
from ls_pipeline.engine.export import BATCH, WRITERS, Exporting, write
from ls_pipeline.resources.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.projects import Projects
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.resources.ledger.lease import Lease
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Target

UNFINISHED_SECONDS = 86_400.0
"""How old the folder of a snapshot that was never finished must be to be let go."""

PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"


@dataclass
class Snapshotting:
    """What became of a snapshot, for people to read."""

    manifest: Manifest | None = None
    """Of the newest snapshot: the new one, or the one that is still true."""
    before: Manifest | None = None
    """Of the snapshot before it, if this one is new."""
    is_new: bool = False
    written: int = 0
    copied: int = 0
    """Files of the new snapshot, by how they came there."""
    removed: list[str] = field(default_factory=list)
    """Snapshots that retention let go."""
    failed: dict[str, str] = field(default_factory=dict)
    """Check → what it found. With any, nothing was published."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was compared: rows here, in the ledger, and in Label Studio."""

    @property
    def newest(self) -> Manifest:
        """Give the manifest of a pass that did not fail."""
        if self.manifest is None:
            raise ValueError(f"nothing was published: {self.failed}")
        return self.manifest


def snapshot(
    account: Account,
    lease: Lease,
    revision: Revision,
    projects: Projects,
    bucket: Bucket,
    progress: Progress,
) -> Snapshotting:
    """Make a snapshot of all exported completions, unless the newest is still true.

    Raises ``ExternalSystemError`` when the bucket or Label Studio fails and ``SnapshotError`` when
    the target holds something else than what was written; the next pass begins anew.
    """
    return _Snapshotter(account, lease, revision, projects, bucket, progress).run()


class _Snapshotter:
    def __init__(
        self,
        account: Account,
        lease: Lease,
        revision: Revision,
        projects: Projects,
        bucket: Bucket,
        progress: Progress,
    ) -> None:
        target = revision.connection.target
        if target is None:
            raise ValueError(f"connection {account.name!r} has no target")
        self.account, self.lease, self.revision = account, lease, revision
        self.target: Target = target
        self.shares = target.params.shares
        self.projects, self.bucket, self.progress = projects, bucket, progress
        self.newest = projects.all()[-1]
        self.snapshots = Snapshots(bucket, target.params.prefix)
        self.changes: Counter[str] = Counter()
        self.done = Snapshotting()

    def run(self) -> Snapshotting:
        moved = self.account.training().moved
        latest, version = self.snapshots.latest()
        self.before = before = self._manifest(latest)
        wanted = dict(self._wanted())
        old = {part.first: part for part in before.parts} if before else {}
        if before and wanted == {first: part.digest for first, part in old.items()}:
            self.done.manifest = before
            self.account.record_snapshot(self.lease, moved, self.snapshots.uri(before.snapshot))
            return self.done
        number = 1 + (latest.number if latest else self._highest_number())
        # With the fence: an overtaken run, which wakes up, writes into a folder of its own.
        self.name = snapshot_name(number, [*wanted.values(), str(self.lease.fence)])
        parts = []
        for first, digest in wanted.items():
            parts.append(self._part(first, digest, old.get(first)))
            self.progress.advance(self.account.name, "training data", len(parts), len(wanted))
        for part in old.values():
            if part.first not in wanted:
                self.changes["removed"] += part.tally.tasks
        manifest = self._manifest_of(number, self._seen(parts))
        self._check(manifest)
        if not self.done.failed:
            self._publish(manifest, version)
            self.account.record_snapshot(self.lease, moved, self.snapshots.uri(self.name))
            self._let_go()
        return self.done

    # -- what is wanted -------------------------------------------------------------------

    def _manifest(self, latest: Latest | None) -> Manifest | None:
        """Give the newest snapshot's manifest, None when a person removed it."""
        if latest is None:
            return None
        try:
            found = self.snapshots.manifest(latest.snapshot)
        except SnapshotError:
            return None
        if found.connection != self.account.name:
            key = latest_key(self.target.params.prefix)
            raise SnapshotError(
                f"{self.bucket.uri(key)} is connection {found.connection!r}'s training data; give "
                "this target a prefix of its own, or remove that object."
            )
        return found

    def _wanted(self) -> Iterator[tuple[int, str]]:
        """Give (first task id, digest) of each part; one without tasks when there is nothing."""
        contents = self.account.exported_contents()
        found = False
        for part, content in itertools.groupby(contents, lambda one: one[0] // PART_TASKS):
            found = True
            yield part * PART_TASKS, part_digest(content, self.shares)
        if not found:
            yield 0, part_digest((), self.shares)

    def _highest_number(self) -> int:
        """Give the highest number that any folder has; ``latest.json`` may have been removed."""
        numbers = (name.partition("-")[0] for name in self.snapshots.by_name())
        return max((int(one) for one in numbers if one.isdecimal()), default=0)

    # -- parts ----------------------------------------------------------------------------

    def _part(self, first: int, digest: str, old: Part | None) -> Part:
        self.account.renew(self.lease)
        if old and old.digest == digest and self._copy(old):
            return old
        tables = self._tables(first, old)
        self.done.failed.update(failed_checks(first, tables, self.shares))
        bodies = {name: write_parquet(tables[name]) for name in TABLES}
        files = {
            name: describe_file(name, first // PART_TASKS, tables[name].num_rows, bodies[name])
            for name in TABLES
        }
        with ThreadPoolExecutor(len(TABLES)) as writers:
            list(writers.map(lambda name: self._put(files[name], bodies[name]), TABLES))
        columns = [tables["tasks"][name].to_pylist() for name in ("task_id", "digest")]
        return Part(
            first=first,
            last=first + PART_TASKS - 1,
            digest=part_digest(zip(*columns, strict=True), self.shares),
            files=files,
            tally=tally_part(tables),
        )

    def _put(self, file: File, body: bytes) -> None:
        key = snapshot_folder(self.target.params.prefix, self.name) + file.path
        self.bucket.put(key, body, PARQUET)
        self.done.written += 1

    def _copy(self, part: Part) -> bool:
        """Copy a part from the snapshot before; false when somebody removed or replaced it."""
        if self.before is None or not self._is_as_written(part):
            return False
        files, copy = part.files.values(), partial(self._copy_one, self.before.snapshot)
        try:
            with ThreadPoolExecutor(len(TABLES)) as copiers:
                list(copiers.map(copy, files))
        except (ObjectNotFoundError, SnapshotError):
            return False
        self.done.copied += len(files)
        return True

    def _copy_one(self, before: str, file: File) -> None:
        prefix = self.target.params.prefix
        here, there = (snapshot_folder(prefix, name) + file.path for name in (before, self.name))
        try:
            self.bucket.copy(here, there)
        except BucketAccessError:  # a copy takes tags along, which is a right of its own
            self.bucket.put(there, self.snapshots.read(before, file), PARQUET)

    def _is_as_written(self, part: Part) -> bool:
        there = self._there_before
        return all(
            (found := there.get(file.path)) is not None
            and found.size == file.bytes
            and file.version in {"", found.version}
            for file in part.files.values()
        )

    @cached_property
    def _there_before(self) -> dict[str, StoredObject]:
        """Give the files of the snapshot before, as the bucket has them now, by their paths."""
        return self._objects(self.before.snapshot) if self.before else {}

    def _objects(self, name: str) -> dict[str, StoredObject]:
        root = snapshot_folder(self.target.params.prefix, name)
        return {one.key[len(root) :]: one for one in self.snapshots.objects(name)}

    def _tables(self, first: int, old: Part | None) -> dict[str, pa.Table]:
        """Read what changed in a part from Label Studio, and the rest from the part before."""
        wanted = dict(self.account.exported_contents(first, first + PART_TASKS - 1))
        before = self._old_tables(old)
        had: dict[int, str] = {}
        if before:
            columns = [before["tasks"][name].to_pylist() for name in ("task_id", "digest")]
            had = dict(zip(*columns, strict=True))
        stale = [task_id for task_id, digest in wanted.items() if had.get(task_id) != digest]
        gone = had.keys() - wanted.keys()
        self.changes["new"] += sum(task_id not in had for task_id in stale)
        self.changes["changed"] += sum(task_id in had for task_id in stale)
        self.changes["removed"] += len(gone)
        reread = list(wanted) if self._reshared else stale
        rows = table_rows(self._completions(reread), self.shares)
        new = {name: to_table(name, rows[name]) for name in TABLES}
        if not before or self._reshared:
            return new
        leave_out = gone | set(stale)
        return {name: merge_tables(name, before[name], leave_out, new[name]) for name in TABLES}

    @property
    def _reshared(self) -> bool:
        """Tell whether the rows of the snapshot before are other than they would be now."""
        if self.before is None:
            return False
        now = {"validation": self.shares.validation, "test": self.shares.test}
        return self.before.shares != now or self.before.schema_version != SCHEMA_VERSION

    def _old_tables(self, part: Part | None) -> dict[str, pa.Table] | None:
        if part is None or self.before is None:
            return None
        name = self.before.snapshot
        try:
            return {
                table: read_parquet(table, self.snapshots.read(name, file))
                for table, file in part.files.items()
            }
        except SnapshotError:  # it was damaged meanwhile: all of it is read from Label Studio
            return None

    def _completions(self, task_ids: Sequence[int]) -> Iterator[Completion]:
        """Read completions; those that are newer than the target's are exported on the way."""
        with ThreadPoolExecutor(WRITERS) as writers:
            for start in range(0, len(task_ids), BATCH):
                some = task_ids[start : start + BATCH]
                found = self.projects.completions(some)
                where = (self.account, self.lease, self.projects, self.target, self.bucket, writers)
                write(*where, found, Exporting())
                yield from (one for one in found if one.annotations)

    # -- the whole ------------------------------------------------------------------------

    def _manifest_of(self, number: int, parts: Sequence[Part]) -> Manifest:
        import pyarrow as pa

        before = self.before
        rows = {name: sum(part.files[name].rows for part in parts) for name in TABLES}
        size = sum(file.bytes for part in parts for file in part.files.values())
        return Manifest(
            snapshot=self.name,
            number=number,
            previous=before.snapshot if before else "",
            schema_version=SCHEMA_VERSION,
            connection=self.account.name,
            project=self.newest.id,
            label_config=self.newest.label_config,
            label_studio_version=self.projects.app.version(),
            settings_revision=self.revision.number,
            pyarrow_version=pa.__version__,
            shares={"validation": self.shares.validation, "test": self.shares.test},
            rows=rows,
            bytes=size,
            changes=Changes(**self.changes),
            tally=add_tallies([part.tally for part in parts]),
            parts=list(parts),
        )

    def _check(self, manifest: Manifest) -> None:
        """Compare the rows with the ledger and with Label Studio."""
        tasks, annotations = self.account.count_exported()
        annotated = self.projects.count_annotated()
        self.done.counts = {
            "tasks": manifest.rows["tasks"],
            "tasks_in_ledger": tasks,
            "annotated_in_label_studio": annotated,
            "annotations": manifest.rows["annotations"],
            "annotations_in_ledger": annotations,
        }
        here = (manifest.rows["tasks"], manifest.rows["annotations"])
        if here != (tasks, annotations) or tasks > annotated:
            self.done.failed["rows_as_exported"] = (
                f"The snapshot has {here[0]} tasks with {here[1]} annotations, the ledger "
                f"{tasks} with {annotations}, Label Studio {annotated} annotated tasks: labels "
                "were deleted meanwhile; the next pass exports that first."
            )

    def _seen(self, parts: Sequence[Part]) -> list[Part]:
        """See that all files are there, and note their versions; those are copied that have them.

        Raises ``BucketUnavailableError``.
        """
        root = snapshot_folder(self.target.params.prefix, self.name)
        there = self._objects(self.name)

        def seen(file: File) -> File:
            one = there.get(file.path)
            if one is None or one.size != file.bytes:
                raise BucketUnavailableError(
                    self.bucket.uri(root + file.path), "it is not as it was written; try again."
                )
            return file.model_copy(update={"version": one.version})

        return [
            part.model_copy(update={"files": {name: seen(part.files[name]) for name in TABLES}})
            for part in parts
        ]

    def _publish(self, manifest: Manifest, version: str) -> None:
        prefix, key = self.target.params.prefix, manifest_key(self.target.params.prefix, self.name)
        self.account.renew(self.lease)
        self.bucket.put(key, manifest.as_bytes(), JSON)
        latest = Latest(snapshot=self.name, number=manifest.number, manifest=key)
        self.account.renew(self.lease)
        try:
            self.bucket.put(latest_key(prefix), latest.as_bytes(), JSON, if_version=version)
        except ObjectChangedError as error:
            there, _ = self.snapshots.latest()  # it may be ours: a reply can get lost
            if there != latest:
                raise SnapshotError(
                    f"Somebody else has moved {self.bucket.uri(latest_key(prefix))}: let one "
                    "connection alone write there."
                ) from error
        self.done.manifest, self.done.before, self.done.is_new = manifest, self.before, True

    def _let_go(self) -> None:
        """Remove what retention lets go, where the target may delete at all."""
        params = self.target.params
        if not params.delete:
            return
        there = self.snapshots.by_name()
        whole = {
            name: _written(objects)
            for name, objects in there.items()
            if any(one.key == manifest_key(params.prefix, name) for one in objects)
        }
        now = self.account.ledger.clock()
        gone = expired(whole, self.name, now, params.snapshots_kept, params.snapshots_kept_days)
        unfinished = [  # of runs that failed, or were killed
            name
            for name in there.keys() - whole.keys()
            if _written(there[name]) < now - UNFINISHED_SECONDS
        ]
        for name in [*gone, *unfinished]:
            for page in self.bucket.pages(formats_folder(params.prefix, name)):
                for one in page:
                    self.bucket.delete(one.key)
            # The manifest first: without it, it is no snapshot any more.
            for one in sorted(there[name], key=lambda one: not one.key.endswith("/manifest.json")):
                self.bucket.delete(one.key)
        self.done.removed = gone


def _written(objects: Iterable[Any]) -> float:
    return max((one.modified.timestamp() for one in objects if one.modified), default=0.0)
