"""``ls-pipeline export``: converts a snapshot to another format."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.console import print_error, print_result, show_progress
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import FAILED, json_instead_of, verbatim
from ls_pipeline.domain.errors import UnknownConnectionError
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.snapshot.formats import ANNOTATIONS, FORMATS
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.engine.image_downloads import ImageDownloads
from ls_pipeline.resources.converter import convert
from ls_pipeline.settings.model import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.domain.snapshot.formats import Annotations
    from ls_pipeline.reader import Snapshot
    from ls_pipeline.settings.model import Target

EPILOG = verbatim("""
Examples:
  The newest snapshot of a connection, as COCO:
    ls-pipeline export cats --format COCO --output cats-coco
  The training split of one snapshot, with the images:
    ls-pipeline export s3://my-bucket/labels/training_data/snapshots/00000007-3f2a9c41d0b2 \\
      --format YOLO --split train --images --output cats-yolo
""")


def _bucket(uri: str) -> Source:
    """Return the bucket of a URI, without params."""
    scheme, _, rest = uri.partition("://")
    return Source(type="s3" if scheme == "s3" else "gcs", path=rest.partition("/")[0])


def _check_buckets(
    _ctx: click.Context, _param: click.Parameter, uris: tuple[str, ...]
) -> tuple[Source, ...]:
    for uri in uris:
        if not re.fullmatch(r"(s3|gs)://[^/]+/?", uri):
            raise click.BadParameter(f"{uri!r} is not a bucket, as in s3://pictures.")
    return tuple(map(_bucket, uris))


@click.command(epilog=EPILOG, short_help="Convert a snapshot to another format.")
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--format", "name", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A new folder to write to."
)
@click.option("--split", type=click.Choice(SPLITS), help="Convert only this split.")
@click.option(
    "--annotations",
    type=click.Choice(ANNOTATIONS),
    default="all",
    show_default=True,
    help="Whose annotations to convert, if several people labeled a task.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if the format can't hold everything.")
@click.option("--images", is_flag=True, help="Also download the images from their buckets.")
@click.option(
    "--images-from",
    "others",
    metavar="BUCKET",
    multiple=True,
    callback=_check_buckets,
    help="Also download the images in this bucket, as in s3://pictures. May be repeated.",
)
@json_instead_of("a sentence")
@click.pass_context
def export(  # noqa: PLR0913, PLR0917 - one for each flag
    ctx: click.Context,
    snapshot: str,
    name: str,
    output: Path,
    split: str | None,
    annotations: Annotations,
    strict: bool,  # noqa: FBT001 - a flag
    images: bool,  # noqa: FBT001 - a flag
    others: tuple[Source, ...],
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """Convert a snapshot to another format.

    SNAPSHOT is the folder of a snapshot (s3://…, gs://… or a local path). For the newest
    snapshot, use the name of a connection or the folder of a target.

    Anyone who can add tasks chooses the addresses of images. So --images downloads only from the
    buckets of the connection, or from the bucket of the snapshot. --images-from adds others. If an
    image was not downloaded, the exit code is 1. ASR_MANIFEST reads the recordings in these buckets
    for their durations.

    The file lost.json in the output lists each result that the format can't hold.
    """
    cli, output = CliContext(), output.absolute()
    if output.resolve() == Path.cwd():
        raise click.UsageError("The output is the current folder. Choose a new one.")
    opened, sides = _open(snapshot, cli)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise click.UsageError(f"{output} already exists. Choose a new folder.")
    with show_progress() as progress, _new_folder(output) as draft:
        title = opened.manifest.connection
        downloads = ImageDownloads(
            cli.bucket_of, [*sides, *others], partial(progress.advance, title, "images")
        )
        report = convert(
            opened.documents(split),
            opened.manifest.label_config,
            name,
            draft,
            downloads.fetch if images or others else None,
            annotations=annotations,
            classes=opened.manifest.class_list,
            measure=ImageDownloads(cli.bucket_of, sides, lambda _done: None).fetch,
        )
    document = {
        "snapshot": opened.uri,
        "format": name,
        "output": str(output),
        "images": downloads.done,
        "not_downloaded": downloads.missing,
        "annotations": annotations,
        **report.as_dict(),
    }
    sentence = f"{opened.uri} was written to {output} as {name}."
    if report.not_chosen:
        sentence += f" --annotations {annotations} left out {report.not_chosen} annotations."
    if report.sentence and not strict:
        sentence += f" {report.sentence}"
    print_result(document, sentence, as_json=as_json)
    if downloads.missing:
        print_error(downloads.sentence)
    if strict and not report.is_complete:
        print_error(report.sentence)
    if downloads.missing or (strict and not report.is_complete):
        ctx.exit(FAILED)


def _open(where: str, cli: CliContext) -> tuple[Snapshot, list[Source | Target]]:
    """Return a snapshot, and the buckets that are known to belong to it."""
    from ls_pipeline.reader import open_snapshot  # slow

    if "://" in where or "/" in where or Path(where).is_dir():
        return open_snapshot(where), [_bucket(where)] if "://" in where else []
    connection = cli.ledger.connection(where)
    target = connection.target
    if target is None:
        names = [name for name in cli.ledger.names() if cli.ledger.connection(name).target]
        raise UnknownConnectionError(where, names)
    place = target.uri(folder(target.params.prefix))
    opened = open_snapshot(place, params=target.params.model_dump())
    return opened, connection.media_sides


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
