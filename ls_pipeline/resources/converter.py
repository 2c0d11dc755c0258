"""Convert completions to COCO, YOLO, CoNLL and others, with label-studio-sdk's converter."""

from __future__ import annotations

import itertools
import json
import logging
import posixpath
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BY_FILE_NAME = ("YOLO", "YOLO_OBB", "VOC")
"""Formats with a file per image, which the converter names after the image alone."""

_TEXTS = {".json", ".jsonl", ".xml", ".txt", ".csv", ".tsv", ".conll"}
_URI = re.compile(r"(?:s3|gs)://[^/]+/.+")


def supported_formats(label_config: str) -> list[str]:
    """Return the formats that the labels of a label config can be converted to."""
    names = _converter(label_config).supported_formats
    return [name for name in FORMATS if name in names]


def convert(
    documents: Iterable[Mapping[str, Any]],
    label_config: str,
    name: str,
    output: Path,
    fetch: Callable[[str, Path], None] | None = None,
) -> None:
    """Write completions, in Label Studio's export form, to a folder in one format.

    Images are named by their URIs. ``fetch(uri, file)``, if given, downloads each into ``images/``;
    nothing else is downloaded. Files per image are named ``<task id>-<image's name>``, so that
    images of the same name in different folders stay apart. If each of a task's annotations has a
    file, they are named ``<task id>-<annotation id>-<image's name>``.

    Raises ``FormatError`` if the labels have no such form, or the converter fails. Errors of
    ``fetch`` pass.
    """
    formats = supported_formats(label_config)
    if name not in formats:
        raise FormatError(
            f"{name} can't represent the labels of this label config.",
            hint=f"Use one of {', '.join(formats)}.",
        )
    output.mkdir(parents=True, exist_ok=True)
    images = output.absolute() / "images"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tasks.json")
        with file.open("w", encoding="utf-8") as stream:
            named: Iterable[tuple[str, Mapping[str, Any]]]
            if name in BY_FILE_NAME:
                named = itertools.chain.from_iterable(map(_split_annotations, documents))
            else:
                named = ((str(document["id"]), document) for document in documents)
            if fetch or name in BY_FILE_NAME:
                documents = (_with_image_files(item, stem, images, fetch) for stem, item in named)
            _write(stream, documents)
        try:
            with _quiet():
                _converter(label_config).convert(str(file), str(output), name, is_dir=False)
        except Exception as error:  # the converter's own, of any kind
            raise FormatError(
                f"label-studio-sdk's converter failed at {name}: {type(error).__name__}: {error}."
            ) from error
    if not fetch:
        shutil.rmtree(images, ignore_errors=True)
    _make_relative(output.absolute())


def _converter(label_config: str) -> Any:
    import requests  # with the next, two seconds
    from label_studio_sdk.converter.converter import Converter

    class Nowhere(requests.Session):
        """Fetches nothing: anyone may have written the addresses in tasks."""

        def request(self, *_args: Any, **_options: Any) -> Any:
            raise requests.ConnectionError("nothing is fetched")

    return Converter(  # type: ignore[no-untyped-call]
        label_config,
        project_dir=None,
        download_resources=False,
        local_files_resolver=lambda _path: None,
        http_session=Nowhere(),
    )


def _write(stream: Any, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list with one document in memory at a time."""
    stream.write("[")
    for number, document in enumerate(documents):
        stream.write("," if number else "")
        json.dump(document, stream)
    stream.write("]")


def _split_annotations(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the start of its files' names, and its document, for each finished annotation.

    The converter would write all annotations of a task to one file, and keep the oldest.
    """
    annotations = [item for item in document["annotations"] if not item.get("was_cancelled")]
    if len(annotations) < 2:  # noqa: PLR2004
        yield str(document["id"]), document
        return
    for annotation in annotations:
        stem = f"{document['id']}-{annotation['id']}"
        yield stem, {**document, "annotations": [annotation]}


def _with_image_files(
    document: Mapping[str, Any], stem: str, images: Path, fetch: Callable[[str, Path], None] | None
) -> dict[str, Any]:
    """Return a document that names a file for each image; the file is empty without ``fetch``."""
    data, taken = dict(document["data"]), set[Path]()
    for key, value in data.items():
        if not isinstance(value, str) or not _URI.fullmatch(value):
            continue
        images.mkdir(exist_ok=True)
        file = images / f"{stem}-{_plain(posixpath.basename(value))}"
        if file in taken:
            file = file.with_name(f"{stem}-{_plain(key)}-{_plain(posixpath.basename(value))}")
        taken.add(file)
        if fetch:
            fetch(value, file)
        else:
            file.touch()  # the converter invents names for files that do not exist
        data[key] = str(file)
    return {**document, "data": data}


def _make_relative(output: Path) -> None:
    """Make the paths in all text files relative to the output folder."""
    here = re.escape(f"{output}/").replace("/", r"\\?/").encode()  # some JSON escapes slashes
    for file in output.rglob("*"):
        if file.suffix in _TEXTS and file.parent != output / "images":
            # Bytes: carriage returns may be part of what was labeled.
            file.write_bytes(re.sub(here, b"", file.read_bytes()))


def _plain(name: str) -> str:
    """Return a file name that every system accepts."""
    stem, dot, ending = re.sub(r"[^\w.-]", "_", name).rpartition(".")
    return f"{stem[:100]}{dot}{ending[:20]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter from logging each image that it was not asked to fetch."""
    loggers = [logging.getLogger(name) for name in ("label_studio_sdk", "label_studio_tools")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
