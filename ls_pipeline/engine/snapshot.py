"""A run that writes a snapshot of training data.

It reads what changed and copies the rest inside the bucket. It writes all files below the
snapshot's own name and verifies them. Then it writes the manifest, and moves ``latest.json`` last:
a reader sees the old snapshot or the new one.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters.shown import class_list
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    SnapshotError,
)
from ls_pipeline.domain.snapshot.folders import datasets_folder, is_folder_file
from ls_pipeline.domain.snapshot.leaks import COLUMNS as COMPARED
from ls_pipeline.domain.snapshot.leaks import LeakFinder
from ls_pipeline.domain.snapshot.manifest import (
    Changes,
    File,
    Latest,
    Manifest,
    Part,
    expired,
    formats_folder,
    is_archive,
    latest_key,
    manifest_key,
    snapshot_folder,
    snapshot_name,
)
from ls_pipeline.domain.snapshot.parts import (
    PART_TASKS,
    Range,
    add_tallies,
    cut_parts,
    describe_file,
    failed_checks,
    merge_tables,
    part_digest,
    read_columns,
    read_parquet,
    tally_part,
    to_table,
    write_parquet,
)
from ls_pipeline.domain.snapshot.tables import SCHEMA_VERSION, TABLES, table_rows
from ls_pipeline.engine.completion_files import (
    WRITERS,
    ExportResult,
    begin_files,
    write_completions,
)
from ls_pipeline.resources.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from ls_pipeline.domain.completions import Completion
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.domain.snapshot.tables import Table
    from ls_pipeline.engine.context import RunContext

UNFINISHED_SECONDS = 86_400.0
"""Age at which retention removes the folder of a snapshot that was never finished."""

PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"


@dataclass
class SnapshotResult:
    """What became of a snapshot, for people to read."""

    manifest: Manifest | None = None
    """Of the newest snapshot: the new one, or the one that is still true."""
    before: Manifest | None = None
    """Of the snapshot before, if this one is new."""
    is_new: bool = False
    written: int = 0
    copied: int = 0
    """Files of the new snapshot that were written and copied."""
    removed: list[str] = field(default_factory=list)
    """Snapshots that retention removed."""
    not_removed: dict[str, str] = field(default_factory=dict)
    """URIs of objects that retention could not delete, with the reasons. The next run tries again.
    """
    failed: dict[str, str] = field(default_factory=dict)
    """What each failed check found. If there is any, nothing was published."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows that were compared: in the snapshot, in the ledger, in Label Studio."""

    @property
    def newest(self) -> Manifest:
        """The newest snapshot's manifest. Raises ``ValueError`` if checks failed."""
        if self.manifest is None:
            raise ValueError(f"nothing was published: {self.failed}")
        return self.manifest


def write_snapshot(run: RunContext) -> SnapshotResult:
    """Write a snapshot of all exported completions, unless the newest is still true.

    Raises ``ExternalSystemError`` if the bucket or Label Studio fails, and ``SnapshotError`` if the
    target holds something else than what was written. The next run starts over.
    """
    run.projects.find()
    run.target_identity.check()
    return _Snapshotter(run).write()


class _Snapshotter:
    def __init__(self, run: RunContext) -> None:
        self.run, self.held, self.bucket = run, run.held, run.bucket
        self.exports, self.target, self.projects = run.held.exports, run.target, run.projects
        self.prefix, self.rule = self.target.params.prefix, self.target.params.split_rule
        self.newest_project = self.projects.newest
        self.snapshots = Snapshots(self.bucket, self.prefix)
        self.changes: Counter[str] = Counter()
        self.leaks = LeakFinder(self.newest_project.label_config)
        self.result = SnapshotResult()

    def write(self) -> SnapshotResult:
        changes = self.exports.snapshot_state().changes
        latest, version = self.snapshots.latest()
        self.before = before = self._manifest(latest)
        wanted = dict(self._wanted())
        old = before.parts if before else []
        if before and wanted == {Range(part.first, part.last): part.digest for part in old}:
            self.result.manifest = before
            self.exports.record_snapshot(changes, self.snapshots.uri(before.snapshot))
            return self.result
        number = 1 + (latest.number if latest else self._highest_number())
        intent = begin_files(self.run, [])
        # With the fence: an overtaken run that wakes up writes into its own folder.
        self.name = snapshot_name(number, [*wanted.values(), str(self.held.fence.number)])
        parts = []
        for ids, digest in wanted.items():
            parts.append(self._part(ids, digest, [part for part in old if ids.overlaps(part)]))
            self.run.advance("training data", len(parts), len(wanted))
        manifest = self._manifest_of(number, self._verified(parts))
        self._check(manifest)
        if not self.result.failed:
            self._publish(manifest, version)
            self.exports.record_snapshot(changes, self.snapshots.uri(self.name))
            self._apply_retention()
        self.held.intents.close(intent)
        return self.result

    # -- what is wanted -------------------------------------------------------------------

    def _manifest(self, latest: Latest | None) -> Manifest | None:
        """Return the newest snapshot's manifest; None if a person removed it."""
        if latest is None:
            return None
        try:
            manifest = self.snapshots.manifest(latest.snapshot)
        except SnapshotError:
            return None
        if manifest.connection != self.run.name:
            uri = self.bucket.uri(latest_key(self.prefix))
            raise SnapshotError(
                f"{uri} is the training data of connection {manifest.connection!r}.",
                hint="Set another prefix for this target, or remove that object.",
            )
        return manifest

    def _wanted(self) -> Iterator[tuple[Range, str]]:
        """Return the ids and the digest of each part; one empty part if nothing is exported."""
        is_empty = True
        for ids, contents in cut_parts(self.exports.contents()):
            is_empty = False
            yield ids, part_digest((item[:2] for item in contents), self.rule)
        if is_empty:
            yield Range(0, PART_TASKS - 1), part_digest((), self.rule)

    def _highest_number(self) -> int:
        """Return the highest number of any folder; ``latest.json`` may have been removed."""
        numbers = (name.partition("-")[0] for name in self.snapshots.by_name())
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    # -- parts ----------------------------------------------------------------------------

    def _part(self, ids: Range, digest: str, old: Sequence[Part]) -> Part:
        self.held.renew()
        for part in old:
            if (part.first, part.last, part.digest) == (*ids, digest) and self._copy(part):
                return part
        tables = self._tables(ids, old)
        self.leaks.add(tables["tasks"])
        self.result.failed.update(failed_checks(ids, tables, self.rule))
        bodies = {name: write_parquet(tables[name]) for name in TABLES}
        files = {
            name: describe_file(name, ids.first, tables[name].num_rows, bodies[name])
            for name in TABLES
        }
        with ThreadPoolExecutor(len(TABLES)) as writers:
            list(writers.map(lambda name: self._put(files[name], bodies[name]), TABLES))
        self.result.written += len(files)
        return Part(
            first=ids.first,
            last=ids.last,
            digest=part_digest(_digests(tables["tasks"]).items(), self.rule),
            files=files,
            tally=tally_part(tables),
        )

    def _put(self, file: File, body: bytes) -> None:
        key = snapshot_folder(self.prefix, self.name) + file.path
        self.bucket.put(key, body, PARQUET)

    def _copy(self, part: Part) -> bool:
        """Copy a part from the snapshot before; return False if it was removed or replaced."""
        if self.before is None or not self._is_as_written(part):
            return False
        files, copy = part.files.values(), partial(self._copy_one, self.before.snapshot)
        try:
            tasks = self.snapshots.read(self.before.snapshot, part.files["tasks"])
            with ThreadPoolExecutor(len(TABLES)) as copiers:
                list(copiers.map(copy, files))
        except (ObjectNotFoundError, SnapshotError):
            return False
        self.leaks.add(read_columns(tasks, COMPARED))
        self.result.copied += len(files)
        return True

    def _copy_one(self, before: str, file: File) -> None:
        old = snapshot_folder(self.prefix, before) + file.path
        new = snapshot_folder(self.prefix, self.name) + file.path
        try:
            self.bucket.copy(old, new)
        except BucketAccessError:  # a copy includes tags, which needs another permission
            self.bucket.put(new, self.snapshots.read(before, file), PARQUET)

    def _is_as_written(self, part: Part) -> bool:
        stored_files = self._files_before
        return all(
            (stored := stored_files.get(file.path)) is not None
            and stored.size == file.bytes
            and file.version in {"", stored.version}
            for file in part.files.values()
        )

    @cached_property
    def _files_before(self) -> dict[str, StoredObject]:
        """The files of the snapshot before, as the bucket has them now, by path."""
        return self._objects(self.before.snapshot) if self.before else {}

    def _objects(self, name: str) -> dict[str, StoredObject]:
        root = snapshot_folder(self.prefix, name)
        return {stored.key[len(root) :]: stored for stored in self.snapshots.objects(name)}

    def _tables(self, ids: Range, old: Sequence[Part]) -> dict[Table, pa.Table]:
        """Read what changed in a part from Label Studio, and the rest from the parts before."""
        wanted = {item.task_id: item.digest for item in self.exports.contents(*ids)}
        before = self._old_tables(old)
        had = {
            task_id: digest
            for table in before["tasks"]
            for task_id, digest in _digests(table).items()
        }
        stale = [task_id for task_id, digest in wanted.items() if had.get(task_id) != digest]
        self.changes["new"] += sum(task_id not in had for task_id in stale)
        self.changes["changed"] += sum(task_id in had for task_id in stale)
        reread = list(wanted) if self._is_outdated else stale
        new: dict[Table, list[pa.Table]] = {name: [] for name in TABLES}
        for completions in self._completions(reread):
            rows = table_rows(completions, self.rule)
            for name in TABLES:
                new[name].append(to_table(name, rows.pop(name)))
        kept = wanted.keys() - set(reread)
        # One table after the other: each is in memory twice while it is merged.
        splits = _splits(before["tasks"])
        merged = {
            name: merge_tables(name, before.pop(name), kept, new.pop(name)) for name in TABLES
        }
        self.changes["moved"] += sum(
            splits.get(task_id, split) != split
            for task_id, split in _splits([merged["tasks"]]).items()
        )
        return merged

    @property
    def _is_outdated(self) -> bool:
        """Whether another rule of splits or another schema makes the rows before outdated."""
        if self.before is None:
            return False
        rule_before = (self.before.shares, self.before.group_by)
        has_rule = rule_before == (self.rule.shares, self.rule.group_by)
        return not has_rule or self.before.schema_version != SCHEMA_VERSION

    def _old_tables(self, parts: Sequence[Part]) -> dict[Table, list[pa.Table]]:
        """Read parts of the snapshot before; nothing if one of them was damaged since."""
        if self.before is None:
            return {table: [] for table in TABLES}
        name = self.before.snapshot
        try:
            return {
                table: [
                    read_parquet(table, self.snapshots.read(name, part.files[table]))
                    for part in parts
                ]
                for table in TABLES
            }
        except SnapshotError:  # all of it is read from Label Studio
            return {table: [] for table in TABLES}

    def _completions(self, task_ids: Sequence[int]) -> Iterator[list[Completion]]:
        """Read completions; export those that are newer than the target's."""
        with ThreadPoolExecutor(WRITERS) as writers:
            for completions in self.projects.pages(task_ids):
                self.held.renew()
                # Those that lost their annotations in between are the next export's.
                annotated = [completion for completion in completions if completion.annotations]
                write_completions(self.run, writers, annotated, ExportResult())
                yield annotated

    # -- the whole ------------------------------------------------------------------------

    def _manifest_of(self, number: int, parts: Sequence[Part]) -> Manifest:
        import pyarrow as pa

        before = self.before
        rows = {name: sum(part.files[name].rows for part in parts) for name in TABLES}
        size = sum(file.bytes for part in parts for file in part.files.values())
        gone = (before.rows["tasks"] if before else 0) + self.changes["new"] - rows["tasks"]
        tally = add_tallies([part.tally for part in parts])
        label_config = self.newest_project.label_config
        return Manifest(
            snapshot=self.name,
            number=number,
            previous=before.snapshot if before else "",
            schema_version=SCHEMA_VERSION,
            connection=self.run.name,
            project=self.newest_project.id,
            label_config=label_config,
            classes=class_list(label_config, tally.labels, before.class_list if before else ()),
            label_studio_version=self.projects.app.version(),
            settings_revision=self.run.revision.number,
            pyarrow_version=pa.__version__,
            shares=self.rule.shares,
            group_by=self.rule.group_by,
            rows=rows,
            bytes=size,
            changes=Changes(**self.changes, removed=max(gone, 0)),
            tally=tally,
            leaks=self.leaks.find(),
            parts=list(parts),
        )

    def _check(self, manifest: Manifest) -> None:
        """Compare the rows with the ledger and with Label Studio."""
        tasks, annotations = self.exports.count()
        annotated = self.projects.count_annotated()
        self.result.counts = {
            "tasks": manifest.rows["tasks"],
            "tasks_in_ledger": tasks,
            "annotated_in_label_studio": annotated,
            "annotations": manifest.rows["annotations"],
            "annotations_in_ledger": annotations,
        }
        rows = (manifest.rows["tasks"], manifest.rows["annotations"])
        if rows != (tasks, annotations) or tasks > annotated:
            self.result.failed["rows_as_exported"] = (
                f"The snapshot has {rows[0]} tasks with {rows[1]} annotations, the ledger "
                f"{tasks} with {annotations}, Label Studio {annotated} annotated tasks: labels "
                "were deleted during the run; the next run exports that first."
            )

    def _verified(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts with their files' versions, which the next snapshot copies by.

        Raises ``BucketUnavailableError`` if a file is missing or has another size.
        """
        root = snapshot_folder(self.prefix, self.name)
        stored_files = self._objects(self.name)

        def verified(file: File) -> File:
            stored = stored_files.get(file.path)
            if stored is None or stored.size != file.bytes:
                uri = self.bucket.uri(root + file.path)
                raise BucketUnavailableError(uri, "it is not as it was written.", hint="Try again.")
            return file.model_copy(update={"version": stored.version})

        return [
            part.model_copy(update={"files": {name: verified(part.files[name]) for name in TABLES}})
            for part in parts
        ]

    def _publish(self, manifest: Manifest, version: str) -> None:
        key, pointer = manifest_key(self.prefix, self.name), latest_key(self.prefix)
        self.held.renew()
        self.bucket.put(key, manifest.as_bytes(), JSON)
        latest = Latest(snapshot=self.name, number=manifest.number, manifest=key)
        self.held.renew()
        try:
            self.bucket.put(pointer, latest.as_bytes(), JSON, if_version=version)
        except ObjectChangedError as error:
            current, _ = self.snapshots.latest()  # it may be ours: a reply can get lost
            if current != latest:
                raise SnapshotError(
                    f"{self.bucket.uri(pointer)} was moved by another writer.",
                    hint="Let only one connection write there.",
                ) from error
        self.result.manifest, self.result.before, self.result.is_new = manifest, self.before, True

    def _apply_retention(self) -> None:
        """Remove expired snapshots, if the target may delete at all."""
        params = self.target.params
        if not params.delete:
            return
        folders = self.snapshots.by_name()
        complete = {
            name: _written_at(files)
            for name, files in folders.items()
            if any(file.key == manifest_key(self.prefix, name) for file in files)
        }
        now = self.held.now()
        gone = expired(complete, self.name, now, params.snapshots_kept, params.snapshots_kept_days)
        unfinished = [  # of runs that failed, or were killed
            name
            for name in folders.keys() - complete.keys()
            if _written_at(folders[name]) < now - UNFINISHED_SECONDS
        ]
        for name in [*gone, *unfinished]:
            if self._remove(name, folders[name]) and name in complete:
                self.result.removed.append(name)

    def _remove(self, name: str, files: Sequence[StoredObject]) -> bool:
        """Delete what a run wrote for a snapshot; return whether all of it is gone.

        Without its manifest, the folder is not a snapshot any more. So the manifest goes before
        the other files, and after the conversions, which nothing else leads to.
        """
        manifest = [file for file in files if _is_manifest(file.key)]
        tables = [file for file in files if not _is_manifest(file.key)]
        copies = [*self._folder_files(name), *self._archives(name)]
        return all(self._delete(some) for some in (copies, manifest, tables))

    def _folder_files(self, name: str) -> list[StoredObject]:
        """Return the files of a snapshot's folders, the markers first."""
        root = datasets_folder(self.prefix, name)
        files = (file for page in self.bucket.pages(root) for file in page)
        ours = [file for file in files if is_folder_file(file.key[len(root) :])]
        return sorted(ours, key=lambda file: not file.key.endswith("/folder.json"))

    def _archives(self, name: str) -> list[StoredObject]:
        root = formats_folder(self.prefix, name)
        files = (file for page in self.bucket.pages(root) for file in page)
        return [file for file in files if is_archive(file.key[len(root) :])]

    def _delete(self, files: Sequence[StoredObject]) -> bool:
        """Delete each of these objects; return whether none failed."""
        failed = {}
        for file in files:
            self.held.renew()
            try:
                self.bucket.delete(file.key)
            except BucketError as error:
                failed[self.bucket.uri(file.key)] = str(error)
        self.result.not_removed |= failed
        return not failed


def _digests(tasks: pa.Table) -> dict[int, str]:
    """Return task id → digest of the completion, from a table of tasks."""
    columns = [tasks[name].to_pylist() for name in ("task_id", "digest")]
    return dict(zip(*columns, strict=True))


def _splits(tables: Iterable[pa.Table]) -> dict[int, str]:
    """Return task id → split, from tables of tasks."""
    columns = ([table[name].to_pylist() for name in ("task_id", "split")] for table in tables)
    return {id_: split for ids, splits in columns for id_, split in zip(ids, splits, strict=True)}


def _is_manifest(key: str) -> bool:
    return key.endswith("/manifest.json")


def _written_at(files: Iterable[Any]) -> float:
    return max((file.modified.timestamp() for file in files if file.modified), default=0.0)
