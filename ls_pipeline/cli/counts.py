"""What there is: counted in the buckets and in Label Studio, not in our own ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ls_pipeline.assets.run import bucket_of
from ls_pipeline.domain.completions import belongs_to
from ls_pipeline.domain.exports import is_completion_key
from ls_pipeline.domain.objects import folder
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.snapshots import Snapshots

if TYPE_CHECKING:
    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.settings.model import Connection, Source, Target


@dataclass(frozen=True, slots=True)
class Counts:
    """One connection's things, counted where they are."""

    objects: int
    """In the source, that its prefix and regex select."""
    tasks: int
    """In the Label Studio projects, without those that other connections loaded."""
    completions: int
    """Tasks of these with a finished annotation, skipped ones included."""
    json_files: int
    """In the target."""
    parquet_rows: int
    """In the newest snapshot's table of annotations."""

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def count_connection(name: str, cli: CliContext) -> Counts:
    """Count a connection's things. Raises ``ExternalSystemError``."""
    connection = cli.ledger.connection(name)
    tasks, completions = _tasks(connection, cli)
    objects = _objects(connection.source, cli)
    return Counts(objects, tasks, completions, *_exports(connection.target, cli))


def _objects(source: Source | None, cli: CliContext) -> int:
    if source is None:
        return 0
    select = source.params.filter
    pages = bucket_of(source, cli.s3, cli.gcs).pages(select.folder)
    return sum(not select.rejected_by(one.key) for page in pages for one in page)


def _tasks(connection: Connection, cli: CliContext) -> tuple[int, int]:
    projects = Projects(cli.ledger.account(connection.name), cli.label_studio)
    if not _shares_project(connection, cli):
        return sum(one.tasks for one in projects.all()), projects.count_annotated()
    mine = [one for one in projects.task_states() if belongs_to(connection.name, one.origin)]
    return len(mine), sum(one.annotations > 0 for one in mine)


def _shares_project(connection: Connection, cli: CliContext) -> bool:
    others = (cli.ledger.connection(name) for name in cli.ledger.names())
    return any(one.project == connection.project and one.name != connection.name for one in others)


def _exports(target: Target | None, cli: CliContext) -> tuple[int, int]:
    """Count JSON files and Parquet rows."""
    if target is None:
        return 0, 0
    prefix = target.params.prefix
    bucket = bucket_of(target, cli.s3, cli.gcs)
    files = sum(
        is_completion_key(prefix, one.key) for page in bucket.pages(folder(prefix)) for one in page
    )
    snapshots = Snapshots(bucket, prefix)
    latest, _ = snapshots.latest()
    return files, snapshots.manifest(latest.snapshot).rows["annotations"] if latest else 0
