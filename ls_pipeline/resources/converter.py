"""Convert completions to COCO, YOLO, CoNLL and others, with label-studio-sdk's converter."""

from __future__ import annotations

import json
import logging
import posixpath
import re
import tempfile
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.batches import sized_batches
from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.snapshot.formats import CONVERTER, FORMATS, INSTALL, NO_CONVERTER
from ls_pipeline.resources.coco_file import CocoFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

BY_FILE_NAME = ("YOLO", "YOLO_OBB", "VOC")
"""Formats with a file per image, which the converter names after the image alone."""

COLLECTED = {"COCO": "result.json", "BRUSH_TO_COCO": "result_coco.json"}
"""Formats that the converter collects in memory, with the file that it writes. They are converted
in batches, which `CocoFile` puts together."""

BATCH_BYTES = 16 * 2**20
"""Bytes of documents in a batch."""

CHUNK = 2**20
"""Bytes of a file that are in memory at once."""

_TEXTS = {".json", ".jsonl", ".xml", ".txt", ".csv", ".tsv", ".conll"}
_IN_BUCKET = re.compile(r"(?:s3|gs)://[^/]+/.+")
_IMAGE = re.compile(r"(?:(?:s3|gs|https?)://[^/]+/|/data/).+")
"""What may be the address of an image; Label Studio serves those that begin with /data/."""


def check_converter() -> None:
    """Raise ``FormatError`` if the converter, from the extra ``formats``, is not installed."""
    if find_spec(CONVERTER) is None:
        raise FormatError(NO_CONVERTER, hint=INSTALL)


def supported_formats(label_config: str) -> list[str]:
    """Return the formats that the labels of a label config can be converted to."""
    names = _converter(label_config).supported_formats
    return [name for name in FORMATS if name in names]


def convert(
    documents: Iterable[Mapping[str, Any]],
    label_config: str,
    name: str,
    output: Path,
    fetch: Callable[[str, Path], bool] | None = None,
) -> None:
    """Write completions, in Label Studio's export form, to a folder in one format.

    Images are named by their URIs. ``fetch(uri, file)``, if given, downloads each into ``images/``,
    or returns False; nothing else is downloaded. Files per image are named
    ``<task id>-<image's name>``, so that images of the same name in different folders stay apart.
    If each of a task's annotations has a file, they are named
    ``<task id>-<annotation id>-<image's name>``.

    The converter converts nothing if it fails over one document. So in other formats than JSON,
    tasks without the data that the label config shows are left out, as are results without a value.

    A few documents are in memory at a time. Raises ``FormatError`` if the labels have no such form,
    or the converter fails or is not installed. Errors of ``fetch`` pass.
    """
    formats = supported_formats(label_config)
    if name not in formats:
        raise FormatError(
            f"{name} can't represent the labels of this label config.",
            hint=f"Use one of {', '.join(formats)}.",
        )
    if name != "JSON":
        documents = _readable(documents, label_config, str if name in BY_FILE_NAME else object)
    output.mkdir(parents=True, exist_ok=True)
    output = output.absolute()
    images = _Images(output / "images", fetch, has_files=name in BY_FILE_NAME)
    converter = _converter(label_config)
    texts = map(json.dumps, images.with_files(documents))
    with tempfile.TemporaryDirectory() as folder:
        file, part = Path(folder, "tasks.json"), Path(folder, "part")
        if name in COLLECTED:
            with CocoFile(Path(folder)) as coco:
                for batch in _batches(texts):
                    _write(file, batch)
                    _run(converter, name, file, part)
                    coco.add(part / COLLECTED[name])
                coco.write(output / COLLECTED[name])
        else:
            _write(file, texts)
            _run(converter, name, file, output)
    images.remove_empty()
    _make_relative(output)


def _readable(
    documents: Iterable[Mapping[str, Any]], label_config: str, kind: type
) -> Iterator[Mapping[str, Any]]:
    """Yield the documents whose data has what the label config shows, of a kind."""
    keys = [key.partition(".")[0] for key in LabelConfig(label_config).keys]
    for document in documents:
        data = document["data"]
        if isinstance(data, dict) and all(
            key in data and isinstance(data[key], kind) for key in keys
        ):
            annotations = [
                {**item, "result": [each for each in item["result"] or () if _is_readable(each)]}
                for item in document["annotations"]
                if isinstance(item["result"], (list, type(None)))
            ]
            yield {**document, "annotations": annotations}


def _is_readable(result: object) -> bool:
    return isinstance(result, dict) and (
        isinstance(result.get("value"), dict) or result.get("type") == "relation"
    )


def _converter(label_config: str) -> Any:
    check_converter()
    import requests  # with the next, two seconds
    from label_studio_sdk.converter.converter import Converter
    from label_studio_sdk.converter.utils import parse_config

    class Nowhere(requests.Session):
        """Fetches nothing: anyone may have written the addresses in tasks."""

        def request(self, *_args: Any, **_options: Any) -> Any:
            raise requests.ConnectionError("nothing is fetched")

    try:
        # Parsed here: the converter would open a label config that is the path of a file.
        config = parse_config(label_config)  # type: ignore[no-untyped-call]
    except Exception as error:  # lxml's, or any
        raise FormatError(f"The label config can't be read: {error}.") from error
    return Converter(  # type: ignore[no-untyped-call]
        config,
        project_dir=None,
        download_resources=False,
        local_files_resolver=lambda _path: None,
        http_session=Nowhere(),
    )


def _run(converter: Any, name: str, file: Path, output: Path) -> None:
    try:
        with _quiet():
            converter.convert(str(file), str(output), name, is_dir=False)
    except Exception as error:  # the converter's own, of any kind
        raise FormatError(
            f"label-studio-sdk's converter failed at {name}: {type(error).__name__}: {error}."
        ) from error


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield at least one batch, because the converter also writes what the label config says."""
    batches = sized_batches(texts, len, BATCH_BYTES)
    yield next(batches, [])
    yield from batches


def _write(file: Path, texts: Iterable[str]) -> None:
    """Write a JSON list with one document in memory at a time."""
    with file.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for number, text in enumerate(texts):
            stream.write("," if number else "")
            stream.write(text)
        stream.write("]")


class _Images:
    """Gives the images of documents files of their own."""

    def __init__(
        self, folder: Path, fetch: Callable[[str, Path], bool] | None, *, has_files: bool
    ) -> None:
        self.folder, self.fetch, self.has_files = folder, fetch, has_files
        self._empty = list[Path]()

    def with_files(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield the documents. They name a file for each image that has one."""
        for document in documents:
            if self.has_files:
                for stem, item in _split_annotations(document):
                    yield self._with_files(item, stem)
            elif self.fetch:
                yield self._with_files(document, str(document["id"]))
            else:
                yield document

    def remove_empty(self) -> None:
        """Remove the files that only gave a name to an image that was not fetched."""
        for file in self._empty:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or not empty
            self.folder.rmdir()

    def _with_files(self, document: Mapping[str, Any], stem: str) -> dict[str, Any]:
        data, taken = dict(document["data"]), set[Path]()
        for key, value in data.items():
            if not isinstance(value, str) or not _IMAGE.fullmatch(value):
                continue
            image = _plain(posixpath.basename(value))
            file = self.folder / f"{_plain(stem)}-{image}"
            if file in taken:
                file = self.folder / f"{_plain(stem)}-{_plain(key)}-{image}"
            if self._fill(value, file):
                taken.add(file)
                data[key] = str(file)
        return {**document, "data": data}

    def _fill(self, uri: str, file: Path) -> bool:
        """Fetch an image; return whether it has a file, which may be empty."""
        self.folder.mkdir(exist_ok=True)
        if self.fetch and _IN_BUCKET.fullmatch(uri) and self.fetch(uri, file):
            return True
        if self.has_files:
            file.touch()  # the converter invents names for files that do not exist
            self._empty.append(file)
        return self.has_files


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


def _make_relative(output: Path) -> None:
    """Make the paths in all text files relative to the output folder."""
    here = f"{output}/".encode()
    paths = [here, here.replace(b"/", rb"\/")]  # some JSON escapes slashes
    for file in output.rglob("*"):
        if file.suffix in _TEXTS and file.parent != output / "images":
            _remove_from(file, paths)


def _remove_from(file: Path, texts: Sequence[bytes]) -> None:
    """Remove all occurrences of some texts from a file, with a chunk in memory at a time."""
    overlap = max(map(len, texts)) - 1
    pattern = re.compile(b"|".join(map(re.escape, texts)))
    draft = file.with_name(file.name + ".part")
    # Bytes: carriage returns may be part of what was labeled.
    with file.open("rb") as old, draft.open("wb") as new:
        rest = b""
        while chunk := old.read(CHUNK):
            rest = pattern.sub(b"", rest + chunk)
            new.write(rest[:-overlap])
            rest = rest[-overlap:]
        new.write(rest)
    draft.replace(file)


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
