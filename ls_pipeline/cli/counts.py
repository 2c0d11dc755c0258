"""A connection's objects, tasks and files, counted in the buckets and in Label Studio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ls_pipeline.domain.completions import belongs_to
from ls_pipeline.domain.exports import is_completion_key
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.manifest import filter_of
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.snapshots import Snapshots

if TYPE_CHECKING:
    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.settings.model import Connection, Source, Target


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one connection. None of them comes from the ledger."""

    objects: int
    """Objects in the source that its params select."""
    tasks: int
    """Tasks in the Label Studio projects, without those that other connections loaded."""
    completions: int
    """Tasks with a finished annotation. Skipped tasks count."""
    json_files: int
    """Completions in the target."""
    parquet_rows: int
    """Rows in the newest snapshot's table of annotations."""


def count_connection(name: str, cli: CliContext) -> Counts:
    """Count a connection's objects, tasks and files. Raises ``ExternalSystemError``."""
    connection = cli.ledger.connection(name)
    tasks, completions = _tasks(connection, cli)
    objects = _objects(connection.source, cli)
    return Counts(objects, tasks, completions, *_exports(connection.target, cli))


def _objects(source: Source | None, cli: CliContext) -> int:
    if source is None:
        return 0
    bucket = cli.bucket_of(source)
    select = filter_of(bucket, source.params)
    pages = bucket.pages(select.folder)
    keys = (stored.key for page in pages for stored in page)
    return sum(not (select.rejected_by(key) or select.is_sidecar(key)) for key in keys)


def _tasks(connection: Connection, cli: CliContext) -> tuple[int, int]:
    projects = Projects(cli.ledger.connection_ledger(connection.name), cli.label_studio)
    if not _shares_project(connection, cli):
        return sum(project.tasks for project in projects.all()), projects.count_annotated()
    tasks = [task for task in projects.task_states() if belongs_to(connection.name, task.origin)]
    return len(tasks), sum(task.annotations > 0 for task in tasks)


def _shares_project(connection: Connection, cli: CliContext) -> bool:
    others = (status for status in cli.ledger.statuses() if status.name != connection.name)
    # Settings that are refused may name the project, too.
    return any(each.refusal or each.connection.project == connection.project for each in others)


def _exports(target: Target | None, cli: CliContext) -> tuple[int, int]:
    """Count JSON files and Parquet rows."""
    if target is None:
        return 0, 0
    prefix = target.params.prefix
    bucket = cli.bucket_of(target)
    pages = bucket.pages(folder(prefix))
    files = sum(is_completion_key(prefix, stored.key) for page in pages for stored in page)
    snapshots = Snapshots(bucket, prefix)
    latest, _ = snapshots.latest()
    return files, snapshots.manifest(latest.snapshot).rows["annotations"] if latest else 0
