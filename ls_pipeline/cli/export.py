"""``ls-pipeline export``: a snapshot in another format."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_lines, show_progress
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of
from ls_pipeline.domain.errors import UnknownConnectionError
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.formats import FORMATS
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.resources.converter import convert
from ls_pipeline.settings.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.reader import Snapshot

EPILOG = """
\b
Examples:
  The newest snapshot of a connection, as COCO:
    ls-pipeline export cats --format COCO --output cats-coco
  One snapshot for ever, its training part, with the images:
    ls-pipeline export s3://my-bucket/labels/training_data/snapshots/00000007-3f2a9c41d0b2 \\
      --format YOLO --split train --images --output cats-yolo
"""


@click.command(epilog=EPILOG, short_help="A snapshot of training data in another format.")
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--format", "name", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--split", type=click.Choice(SPLITS), help="This part of it alone.")
@click.option("--images", is_flag=True, help="Fetch the images, too, from their buckets.")
@json_instead_of("a sentence")
def export(  # noqa: PLR0913, PLR0917 - one for each flag
    snapshot: str,
    name: str,
    output: Path,
    split: str | None,
    images: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """Convert a snapshot by label-studio-sdk's converter.

    SNAPSHOT is a connection's name or a target's folder (s3://…, gs://… or on this disk), for the
    newest one, or the folder of one snapshot.
    """
    cli, output = CliContext(), output.absolute()
    if output.resolve() == Path.cwd():
        raise click.UsageError("The output is the folder that you are in; give a new one.")
    found, source = _opened(snapshot, cli)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise click.UsageError(f"{output} is there already; give a new folder.")
    with show_progress() as shown, _whole(output) as aside:
        count = 0

        def fetch(uri: str, file: Path) -> None:
            nonlocal count
            _fetch(cli, source, uri, file)
            count += 1
            shown.advance(found.manifest.connection, "images", count)

        documents = found.documents(split)
        convert(documents, found.manifest.label_config, name, aside, fetch if images else None)
    if as_json:
        told = {"snapshot": found.uri, "format": name, "output": str(output), "images": count}
        click.echo(json.dumps(told))
    else:
        print_lines(f"{found.uri} is in {output}, as {name}.")


def _opened(where: str, cli: CliContext) -> tuple[Snapshot, Source | None]:
    """Open a snapshot; give it with the source of the connection that was named, if one was."""
    from ls_pipeline.reader import open_snapshot  # slow

    if "://" in where or "/" in where or Path(where).is_dir():
        return open_snapshot(where), None
    connection = cli.ledger.connection(where)
    target = connection.target
    if target is None:
        raise UnknownConnectionError(where, _with_targets(cli))
    place = target.uri(folder(target.params.prefix))
    return open_snapshot(place, params=target.params.model_dump()), connection.source


def _with_targets(cli: CliContext) -> list[str]:
    names = cli.ledger.names()
    return [name for name in names if cli.ledger.connection(name).target]


def _fetch(cli: CliContext, known: Source | None, uri: str, file: Path) -> None:
    """Fetch an image; one of the connection's own bucket as its params say."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    source = Source(type="s3" if scheme == "s3" else "gcs", path=bucket)
    if known and (known.cloud, known.path) == (source.cloud, source.path):
        source = known
    cloud = cli.s3 if source.cloud == "s3" else cli.gcs
    file.write_bytes(cloud.bucket_of(source).get(key))


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name when it is filled, or goes."""
    aside = output.with_name(output.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if output.exists():
            output.rmdir()
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
