"""A manifest for speech recognition, as NVIDIA NeMo reads it: a JSON document a line.

A recording has a line with its path, duration and text. If parts of it have texts of their own,
each part has a line with its offset and duration.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters.choice import results_of
from ls_pipeline.domain.converters.lost import Source, source_of
from ls_pipeline.domain.converters.media import AUDIO, file_name
from ls_pipeline.domain.converters.pictures import NO_NOTES
from ls_pipeline.domain.converters.regions import labels_in, notes_in, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.domain.converters.choice import Annotation
    from ls_pipeline.domain.converters.media import MediaFile
    from ls_pipeline.domain.converters.shown import Shown
    from ls_pipeline.domain.converters.writer import Setup, Task

NO_DURATION = "the duration of its recording is not known"


class AsrWriter:
    """Writes ``manifest.json``, one line for each recording or part of it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._stream = setup.folder.append("manifest.json")
        controls = setup.config.controls_of("audio") + setup.config.controls_of("audioplus")
        texts = (each.name for each in controls if each.tag == "textarea")
        self.texts = list(dict.fromkeys(texts))

    def add(self, task: Task) -> None:
        shown = self.setup.config.shown_in(task.data, "audio", "audioplus")
        files = [
            self.setup.media.file(
                each.value,
                AUDIO,
                file_name(each.value, task.id, *([number] if len(shown) > 1 else [])),
            )
            for number, each in enumerate(shown)
        ]
        for annotation in task.annotations:
            recordings = [_Recording(each, file) for each, file in zip(shown, files, strict=True)]
            self._read(task.id, annotation, recordings)
            for recording in recordings:
                self._write(recording, annotation)

    def finish(self) -> None:
        """Write nothing more."""

    def _read(self, task_id: Any, annotation: Annotation, recordings: list[_Recording]) -> None:
        """Add the results of an annotation to its recordings, or count them as lost."""
        for position, item in enumerate(results_of(annotation)):
            result: Mapping[str, Any] = item if isinstance(item, dict) else {}
            source = source_of(task_id, annotation, position, result)
            mine = [each for each in recordings if each.shown.name == result.get("to_name")]
            if source.kind == "relation":
                self.setup.losses.lose(source, "it is a relation")
            elif not isinstance(result.get("value"), dict):
                self.setup.losses.lose(source, "it has no value")
            elif not mine:
                self.setup.losses.lose(source, "it is not about a recording")
            elif not mine[0].add(source, result, self._text_of(result)):
                self.setup.losses.lose(source, "it is no text of a recording")
            elif notes_in(result):
                self.setup.losses.simplify(source, NO_NOTES)

    def _text_of(self, result: Mapping[str, Any]) -> str | None:
        control = self.setup.config.control(str(result.get("from_name") or ""))
        if result.get("type") != "textarea" or (control and control.name not in self.texts):
            return None
        text = result["value"].get("text")
        found = text if isinstance(text, list) else [text]
        texts = [each for each in found if isinstance(each, str)]
        return "\n".join(texts) if texts else None

    def _write(self, recording: _Recording, annotation: Annotation) -> None:
        lines = []
        for part in recording.parts:
            if part.is_placed and (part.texts or part.labels):
                lines.append(self._part(part))
            else:
                for source in part.sources:
                    self.setup.losses.lose(source, "its place is not known")
        if recording.texts or not lines:
            lines.insert(0, self._whole(recording))
        path = recording.file.path if recording.file.is_there else recording.shown.value
        person = annotation.get("completed_by")
        for line in lines:
            document = {"audio_filepath": path, **line, "annotator": person}
            self._stream.write(json.dumps(document, ensure_ascii=False) + "\n")

    def _whole(self, recording: _Recording) -> dict[str, Any]:
        seconds = recording.file.seconds or recording.seconds
        by_control: dict[str, list[str]] = {}
        for source, name, text in recording.texts:
            by_control.setdefault(name, []).append(text)
            if next(iter(by_control)) != name:
                self.setup.losses.lose(source, "it is a second text of its recording")
            elif seconds is None:
                self.setup.losses.simplify(source, NO_DURATION)
        texts = next(iter(by_control.values()), [])
        return {"duration": seconds, "text": "\n".join(texts)}

    @staticmethod
    def _part(part: _Part) -> dict[str, Any]:
        start, end = part.start or 0.0, part.end or 0.0
        line: dict[str, Any] = {"offset": start, "duration": end - start}
        line["text"] = "\n".join(part.texts)
        if part.channel is not None:
            line["channel"] = part.channel
        return {**line, "labels": part.labels} if part.labels else line


class _Part:
    """A part of a recording."""

    def __init__(self, id_: str, channel: Any = None) -> None:
        self.id, self.channel = id_, channel
        self.start: float | None = None
        self.end: float | None = None
        self.texts: list[str] = []
        self.labels: list[str] = []
        self.sources: list[Source] = []

    def is_at(self, start: float | None, end: float | None) -> bool:
        """Return whether a result at this place can be about it."""
        return all(
            new is None or known is None or new == known
            for new, known in ((start, self.start), (end, self.end))
        )

    @property
    def is_placed(self) -> bool:
        return self.start is not None and self.end is not None and self.end > self.start


class _Recording:
    """A recording, as one annotation sees it."""

    def __init__(self, shown: Shown, file: MediaFile) -> None:
        self.shown, self.file = shown, file
        self.parts: list[_Part] = []
        self.texts: list[tuple[Source, str, str]] = []
        self.seconds: float | None = None
        """As the annotator saw it."""

    def add(self, source: Source, result: Mapping[str, Any], text: str | None) -> bool:
        """Add a result; return whether a manifest has it."""
        value = result["value"]
        self.seconds = self.seconds or number(result.get("original_length"))
        start, end = number(value.get("start")), number(value.get("end"))
        is_label = source.kind == "labels"
        if not is_label and text is None and start is None:
            return False
        if start is None and not is_label:
            self.texts.append((source, str(result.get("from_name")), text or ""))
            return True
        if not is_label and text is None and source.kind not in {"audio", "region"}:
            return False
        id_ = source.result_id or str(source.number)
        found = (each for each in self.parts if each.id == id_ and each.is_at(start, end))
        part = next(found, None)
        if part is None:
            part = _Part(id_, value.get("channel"))
            self.parts.append(part)
        part.sources.append(source)
        part.start, part.end = (
            part.start if start is None else start,
            part.end if end is None else end,
        )
        part.texts += [text] if text else []
        part.labels += labels_in(result) if is_label else []
        return True
