"""``ls-pipeline export``: converts a snapshot to another format."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_result, show_progress
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import json_instead_of, verbatim
from ls_pipeline.domain.errors import UnknownConnectionError
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.formats import FORMATS
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.resources.converter import convert
from ls_pipeline.settings.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.reader import Snapshot

EPILOG = verbatim("""
Examples:
  The newest snapshot of a connection, as COCO:
    ls-pipeline export cats --format COCO --output cats-coco
  The training split of one snapshot, with the images:
    ls-pipeline export s3://my-bucket/labels/training_data/snapshots/00000007-3f2a9c41d0b2 \\
      --format YOLO --split train --images --output cats-yolo
""")


@click.command(epilog=EPILOG, short_help="Convert a snapshot to another format.")
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--format", "name", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A new folder to write to."
)
@click.option("--split", type=click.Choice(SPLITS), help="Convert only this split.")
@click.option("--images", is_flag=True, help="Also download the images from their buckets.")
@json_instead_of("a sentence")
def export(
    snapshot: str,
    name: str,
    output: Path,
    split: str | None,
    images: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """Convert a snapshot with label-studio-sdk's converter.

    SNAPSHOT is the folder of a snapshot (s3://…, gs://… or a local path). For the newest
    snapshot, use the name of a connection or the folder of a target.
    """
    cli, output = CliContext(), output.absolute()
    if output.resolve() == Path.cwd():
        raise click.UsageError("The output is the current folder. Choose a new one.")
    opened, source = _open(snapshot, cli)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise click.UsageError(f"{output} already exists. Choose a new folder.")
    with show_progress() as progress, _new_folder(output) as draft:
        count = 0

        def fetch(uri: str, file: Path) -> None:
            nonlocal count
            _fetch(cli, source, uri, file)
            count += 1
            progress.advance(opened.manifest.connection, "images", count)

        documents = opened.documents(split)
        convert(documents, opened.manifest.label_config, name, draft, fetch if images else None)
    document = {"snapshot": opened.uri, "format": name, "output": str(output), "images": count}
    sentence = f"{opened.uri} was written to {output} as {name}."
    print_result(document, sentence, as_json=as_json)


def _open(where: str, cli: CliContext) -> tuple[Snapshot, Source | None]:
    """Return a snapshot, and the source of its connection if ``where`` is a connection's name."""
    from ls_pipeline.reader import open_snapshot  # slow

    if "://" in where or "/" in where or Path(where).is_dir():
        return open_snapshot(where), None
    connection = cli.ledger.connection(where)
    target = connection.target
    if target is None:
        statuses = [each for each in cli.ledger.statuses() if not each.refusal]
        names = [each.name for each in statuses if each.connection.target]
        raise UnknownConnectionError(where, names)
    place = target.uri(folder(target.params.prefix))
    return open_snapshot(place, params=target.params.model_dump()), connection.source


def _fetch(cli: CliContext, known: Source | None, uri: str, file: Path) -> None:
    """Download an image. The params of ``known`` apply if the image is in its bucket."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    source = Source(type="s3" if scheme == "s3" else "gcs", path=bucket)
    if known and (known.cloud, known.path) == (source.cloud, source.path):
        source = known
    file.write_bytes(cli.bucket_of(source).get(key))


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder to fill. It becomes ``output`` on success, and is deleted on failure."""
    draft = output.with_name(output.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if output.exists():
            output.rmdir()
        draft.rename(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
