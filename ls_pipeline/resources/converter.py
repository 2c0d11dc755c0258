"""Converts completions to COCO, YOLO, CoNLL and others, in a folder on disk."""

from __future__ import annotations

import re
import tempfile
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters.folder import OutputFolder
from ls_pipeline.domain.converters.formats import OWN_MEDIA, WRITERS, fitting
from ls_pipeline.domain.converters.lost import Losses, Report
from ls_pipeline.domain.converters.media import AUDIO, IMAGES, MediaFile, NoMedia, file_name
from ls_pipeline.domain.converters.shown import Classes, ShownConfig, class_list
from ls_pipeline.domain.converters.writer import Setup, write_tasks
from ls_pipeline.domain.errors import FormatError
from ls_pipeline.resources.media_files import recording_seconds, write_upright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ls_pipeline.domain.converters.media import Media
    from ls_pipeline.domain.snapshot.formats import Annotations

    Fetch = Callable[[str, Path], bool]
    """Downloads an object to a file, or returns False."""

_IN_BUCKET = re.compile(r"(?:s3|gs)://[^/]+/.+")


def supported_formats(label_config: str) -> list[str]:
    """Return the formats that the labels of a label config can be converted to."""
    return fitting(ShownConfig(label_config))


def convert(  # noqa: PLR0913 - what, to what, and how
    documents: Iterable[Mapping[str, Any]],
    label_config: str,
    name: str,
    output: Path,
    fetch: Fetch | None = None,
    *,
    annotations: Annotations = "all",
    classes: Sequence[str] | None = None,
    measure: Fetch | None = None,
) -> Report:
    """Write completions, in Label Studio's export form, to a folder in one format.

    Returns what the format could not hold, which ``lost.json`` in the folder lists. ``fetch`` puts
    pictures and recordings into the folder; nothing else is downloaded, and what was not is named
    by its URI. ``measure`` downloads recordings only for their duration. ``classes`` is the class
    list of the snapshot.

    A task is in memory at a time. Raises ``FormatError`` if the labels have no such form. Errors of
    ``fetch`` pass.
    """
    config = ShownConfig(label_config)
    if name not in fitting(config):
        raise FormatError(
            f"{name} can't represent the labels of this label config.",
            hint=f"Use one of {', '.join(fitting(config))}.",
        )
    known = class_list(label_config, {}) if classes is None else classes
    media: Media = NoMedia()
    if fetch:
        media = FetchedMedia(output, fetch)
    elif measure and name == "ASR_MANIFEST":
        media = MeasuredMedia(measure)
    with OutputFolder(output) as folder:
        losses = Losses(folder)
        setup = Setup(config, Classes(known), media, losses, folder)
        if fetch and name not in OWN_MEDIA:
            documents = _with_files(documents, media)
        write_tasks(
            WRITERS[name](setup), setup, documents, annotations, with_skipped=name == "JSON"
        )
        losses.write(folder, name, annotations)
        return losses.report


class FetchedMedia:
    """Downloads pictures and recordings into a folder."""

    def __init__(self, root: Path, fetch: Fetch) -> None:
        self.root, self.fetch = root, fetch

    def file(self, uri: str, folder: str, name: str) -> MediaFile:
        path = f"{folder}/{name}"
        file = self.root / path
        if not _IN_BUCKET.fullmatch(uri):
            return MediaFile(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not self.fetch(uri, file):
            return MediaFile(path)
        if folder == AUDIO:
            return MediaFile(path, is_there=True, seconds=recording_seconds(file))
        return MediaFile(path, is_there=True, size=write_upright(file))


class MeasuredMedia:
    """Downloads recordings for their duration, and removes them again."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch

    def file(self, uri: str, folder: str, name: str) -> MediaFile:
        path = f"{folder}/{name}"
        if folder != AUDIO or not _IN_BUCKET.fullmatch(uri):
            return MediaFile(path)
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary, name)
            seconds = recording_seconds(file) if self.fetch(uri, file) else None
        return MediaFile(path, seconds=seconds)


def _with_files(documents: Iterable[Mapping[str, Any]], media: Media) -> Iterator[dict[str, Any]]:
    """Yield the documents; their data names the files of the objects that were downloaded."""
    for document in documents:
        uris = list(dict.fromkeys(_uris(document.get("data"))))
        names = {}
        for number, uri in enumerate(uris):
            parts = [document.get("id"), *([number] if len(uris) > 1 else [])]
            kind = guess_type(uri)[0] or ""
            folder = AUDIO if kind.startswith("audio/") else IMAGES
            file = media.file(uri, folder, file_name(uri, *parts))
            if file.is_there:
                names[uri] = file.path
        yield {**document, "data": _renamed(document.get("data"), names)}


def _uris(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        if _IN_BUCKET.fullmatch(data):
            yield data
    elif isinstance(data, (list, dict)):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _uris(item)


def _renamed(data: Any, names: Mapping[str, str]) -> Any:
    if isinstance(data, str):
        return names.get(data, data)
    if isinstance(data, list):
        return [_renamed(item, names) for item in data]
    if isinstance(data, dict):
        return {key: _renamed(item, names) for key, item in data.items()}
    return data
