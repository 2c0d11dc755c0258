"""From completions to COCO, YOLO, CoNLL and the rest, by label-studio-sdk's converter."""

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
"""Formats with a file for each image, which the converter names after the image alone."""

_TEXTS = {".json", ".jsonl", ".xml", ".txt", ".csv", ".tsv", ".conll"}
_URI = re.compile(r"(?:s3|gs)://[^/]+/.+")


def supported_formats(label_config: str) -> list[str]:
    """List the formats that a label config's labels can be converted to."""
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

    An image is named by its URI; with ``fetch(uri, file)``, it is fetched into ``images/``.
    Where images have files of their own, they are called ``<task id>-<image's name>``, so that
    two images of one name in different folders stay two; where a task has several annotations and
    each has a file, ``<task id>-<annotation id>-<image's name>``. Nothing else is fetched.

    Raises ``FormatError`` when the labels have no such form, or the converter fails; what
    ``fetch`` raises passes through.
    """
    fits = supported_formats(label_config)
    if name not in fits:
        raise FormatError(
            f"{name} has no form for what this label config labels; it can be converted to "
            f"{', '.join(fits)}."
        )
    output.mkdir(parents=True, exist_ok=True)
    images = output.absolute() / "images"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tasks.json")
        with file.open("w", encoding="utf-8") as stream:
            apart = itertools.chain.from_iterable(map(_apart, documents))
            ready = apart if name in BY_FILE_NAME else ((str(one["id"]), one) for one in documents)
            _write(stream, (_named(one, stem, name, images, fetch) for stem, one in ready))
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
        """Fetches nothing: addresses in tasks are anybody's."""

        def request(self, *_args: Any, **_how: Any) -> Any:
            raise requests.ConnectionError("nothing is fetched")

    return Converter(  # type: ignore[no-untyped-call]
        label_config,
        project_dir=None,
        download_resources=False,
        local_files_resolver=lambda _path: None,
        http_session=Nowhere(),
    )


def _write(stream: Any, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list, one document in memory at a time."""
    stream.write("[")
    for number, one in enumerate(documents):
        stream.write("," if number else "")
        json.dump(one, stream)
    stream.write("]")


def _apart(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give each finished annotation with its task, and how its files' names begin.

    The converter would write all of them to one file, and keep the oldest.
    """
    annotations = [one for one in document["annotations"] if not one.get("was_cancelled")]
    if len(annotations) < 2:  # noqa: PLR2004
        yield str(document["id"]), document
        return
    for one in annotations:
        yield f"{document['id']}-{one['id']}", {**document, "annotations": [one]}


def _named(
    document: Mapping[str, Any],
    stem: str,
    name: str,
    images: Path,
    fetch: Callable[[str, Path], None] | None,
) -> dict[str, Any]:
    data, taken = dict(document["data"]), set[Path]()
    for key, value in data.items():
        wanted = fetch or name in BY_FILE_NAME
        if not wanted or not isinstance(value, str) or not _URI.fullmatch(value):
            continue
        images.mkdir(exist_ok=True)
        file = images / f"{stem}-{_plain(posixpath.basename(value))}"
        if file in taken:
            file = file.with_name(f"{stem}-{_plain(key)}-{_plain(posixpath.basename(value))}")
        taken.add(file)
        if fetch:
            fetch(value, file)
        else:
            file.touch()  # the converter gives names of its own to files that are not there
        data[key] = str(file)
    return {**document, "data": data}


def _make_relative(output: Path) -> None:
    """Let files name each other from the folder that they are in."""
    here = re.escape(f"{output}/").replace("/", r"\\?/").encode()  # some JSON escapes slashes
    for file in output.rglob("*"):
        if file.suffix in _TEXTS and file.parent != output / "images":
            # Bytes: a line's end may be a carriage return, and part of what was labeled.
            file.write_bytes(re.sub(here, b"", file.read_bytes()))


def _plain(name: str) -> str:
    """Give a file's name that every system takes."""
    stem, dot, ending = re.sub(r"[^\w.-]", "_", name).rpartition(".")
    return f"{stem[:100]}{dot}{ending[:20]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter from telling of each image that it was not asked to fetch."""
    loggers = [logging.getLogger(name) for name in ("label_studio_sdk", "label_studio_tools")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
