"""The media of tasks: the objects in buckets whose addresses the label config shows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.label_config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MEDIA_TAGS = frozenset({"Image", "Audio", "AudioPlus", "Video", "Pdf"})
"""Tags whose values are always addresses."""

TASK_COLUMNS = ("task_id", "object_uri", "object_version", "split", "data")
"""The columns of the table of tasks that name media."""

_ADDRESS = re.compile(r"(?P<bucket>(?:s3|gs)://[^/]+)/(?P<key>.+)", re.DOTALL)


class MediaObject(NamedTuple):
    """An object that a task shows."""

    task_id: int
    data_key: str
    """The key of the task's data that names it."""
    uri: str
    version: str = ""
    """The version that was labeled; empty if only the address is known."""

    @property
    def id(self) -> str:
        """What differs for each object, and for each version that was labeled."""
        return f"{self.uri}\n{self.version}"

    @property
    def place(self) -> tuple[str, str]:
        """The bucket's URI and the key; both are empty if it is not in a bucket."""
        match = _ADDRESS.fullmatch(self.uri)
        return (match["bucket"], match["key"]) if match else ("", "")


class MediaKeys:
    """What a label config shows of tasks."""

    def __init__(self, label_config: str) -> None:
        try:
            config = LabelConfig(label_config)
        except NotATaskError:
            config = LabelConfig()
        self.keys = [config.key(name) for name in config.keys]

    def objects(self, task: Mapping[str, Any]) -> Iterator[MediaObject]:
        """Yield the media of a row of the table of tasks.

        Without a label config, any address in the data counts. A picture that is not in a bucket
        has no place.
        """
        data = json.loads(task["data"])
        values = [("", data)]
        if self.keys:
            values = [(key.name, _value(key, data)) for key in self.keys]
        always = {key.name for key in self.keys if key.tag in MEDIA_TAGS}
        for name, value in values:
            for data_key, text in _texts(name, value):
                if _ADDRESS.fullmatch(text) or (name in always and text):
                    version = task["object_version"] if text == task["object_uri"] else ""
                    yield MediaObject(task["task_id"], data_key, text, version or "")


def _value(key: Any, data: object) -> object:
    try:
        return key.value_in(data)
    except LookupError:
        return None


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the texts in a value, each with its key; without a name, that of the data."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(name or key, item)
