"""CoNLL 2003: a token a line, and its entity by the scheme IOB2.

Tokens are words, single signs, and single characters of scripts without spaces. Where a span begins
or ends inside a word, the word is cut: so every span is exactly its tokens.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ls_pipeline.domain.converters.choice import results_of
from ls_pipeline.domain.converters.media import plain
from ls_pipeline.domain.converters.pictures import NO_NOTES
from ls_pipeline.domain.converters.regions import labels_in, notes_in, number, read_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import IO

    from ls_pipeline.domain.converters.choice import Annotation
    from ls_pipeline.domain.converters.lost import Source
    from ls_pipeline.domain.converters.shown import Shown
    from ls_pipeline.domain.converters.writer import Setup, Task

_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"  # Chinese and Japanese
)
"""Characters of scripts that have no spaces between words."""

_TOKEN = re.compile(rf"[{_NO_SPACES}]|(?:(?![{_NO_SPACES}])\w)+|[^\w\s]")

HEADER = "-DOCSTART- -X- O O\n\n"
OVERLAP = "it overlaps with another span of its control"


class Span(NamedTuple):
    """A labeled part of a text: the characters from ``start`` to before ``end``."""

    start: int
    end: int
    label: str


class ConllWriter:
    """Writes one file, or one for each control if several label texts."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        controls = [each.name for each in setup.config.controls_of("text") if each.tag == "labels"]
        self.names = list(dict.fromkeys(controls))
        self._streams: dict[str, IO[str]] = {}
        self._urls = {each.name for each in setup.config.objects if each.is_url}
        for name in self.names:
            self._streams[name] = setup.folder.append(self.path(name))
            self._streams[name].write(HEADER)

    def path(self, control: str) -> str:
        """Return the path of the file of a control."""
        if len(self.names) == 1:
            return "result.conll"
        return f"{self.names.index(control)}-{plain(control)}.conll"

    def add(self, task: Task) -> None:
        shown = self.setup.config.shown_in(task.data, "text")
        for annotation in task.annotations:
            spans = self._spans(task.id, annotation, shown)
            for name, stream in self._streams.items():
                for position, text in enumerate(shown):
                    if self._labels(name, text):
                        _write(stream, str(text.value), spans.get((name, position), []))

    def finish(self) -> None:
        """Write nothing more."""

    def _labels(self, control: str, text: Shown) -> bool:
        """Return whether a control labels a text."""
        tag = self.setup.config.control(control)
        names = tag.to_names if tag else ()
        return text.name not in self._urls and any(_fits(name, text.name) for name in names)

    def _spans(
        self, task_id: Any, annotation: Annotation, shown: list[Shown]
    ) -> dict[tuple[str, int], list[Span]]:
        """Return the spans of each control and text; what is no span is counted as lost."""
        results = results_of(annotation)
        sorted_ = read_results(task_id, annotation)
        others = [source for region in sorted_.regions for source in region.sources]
        others += [source for region in sorted_.regions for source in region.attribute_sources]
        for source in sorted_.unreadable:
            self.setup.losses.lose(source, "it has no value")
        for source, *_ in sorted_.relations:
            self.setup.losses.lose(source, "it is a relation")
        for source in others:
            self.setup.losses.lose(source, "it is not a span of a text")
        found: dict[tuple[str, int], list[tuple[Span, Source]]] = {}
        for source, _ in sorted(sorted_.others, key=lambda each: each[0].number):
            result = results[source.number]
            place = self._place(result, shown)
            if place is None:
                self.setup.losses.lose(source, "it is not a span of a text")
                continue
            span = self._span(source, result, str(shown[place[1]].value))
            if span:
                found.setdefault(place, []).append((span, source))
        return {place: self._apart(spans) for place, spans in found.items()}

    def _place(self, result: Mapping[str, Any], shown: list[Shown]) -> tuple[str, int] | None:
        """Return the control and the text of a span."""
        control = self.setup.config.control(str(result.get("from_name")))
        if control is None or control.name not in self._streams:
            return None
        for position, text in enumerate(shown):
            if str(result.get("to_name")) == text.name and self._labels(control.name, text):
                return control.name, position
        return None

    def _span(self, source: Source, result: Mapping[str, Any], text: str) -> Span | None:
        losses, value = self.setup.losses, result["value"]
        labels = labels_in(result)
        start, end = number(value.get("start")), number(value.get("end"))
        if not labels:
            losses.lose(source, "it has no label")
            return None
        if start is None or end is None or not 0 <= start < end:
            losses.lose(source, "its place is not known")
            return None
        said = value.get("text")
        place = find_place(text, int(start), int(end), said if isinstance(said, str) else "")
        if not _TOKEN.search(text[slice(*place)]):
            losses.lose(source, "it has no characters but spaces")
            return None
        if isinstance(said, str) and "".join(text[slice(*place)].split()) != "".join(said.split()):
            losses.simplify(source, "the text at its place is not the text that it names")
        elif end > len(text.encode("utf-16-le", "surrogatepass")) / 2:
            losses.simplify(source, "its end is after the end of its text")
        if notes_in(result):
            losses.simplify(source, NO_NOTES)
        if len(labels) > 1:
            losses.simplify(source, "only its first label is in the output")
        return Span(*place, labels[0])

    def _apart(self, spans: Iterable[tuple[Span, Source]]) -> list[Span]:
        """Return spans that don't overlap, in their order; the first and longest ones are kept."""
        kept: list[Span] = []
        for span, source in sorted(spans, key=lambda each: (each[0].start, -each[0].end)):
            if kept and span.start < kept[-1].end:
                self.setup.losses.lose(source, OVERLAP)
            else:
                kept.append(span)
        return kept


def find_place(text: str, start: int, end: int, said: str) -> tuple[int, int]:
    """Return the place of a span in characters.

    Offsets may count UTF-16 units, as browsers do; the text that a span names decides.
    """
    if said and text[start:end] != said:
        units = text.encode("utf-16-le", "surrogatepass")
        before, inside = units[: 2 * start], units[2 * start : 2 * end]
        if inside == said.encode("utf-16-le", "surrogatepass"):
            first = len(before.decode("utf-16-le", "surrogatepass"))
            return first, first + len(said)
    return start, min(end, len(text))


def tokens(text: str, spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """Yield the place of each token; none goes over the border of a span."""
    borders = deque(sorted({place for span in spans for place in (span.start, span.end)}))
    for match in _TOKEN.finditer(text):
        start = match.start()
        while borders and borders[0] < match.end():
            border = borders.popleft()
            if border > start:
                yield start, border
                start = border
        yield start, match.end()


def _write(stream: IO[str], text: str, spans: list[Span]) -> None:
    if not _TOKEN.search(text):
        return
    waiting = deque(spans)
    begun: Span | None = None
    for start, end in tokens(text, spans):
        while waiting and waiting[0].end <= start:
            waiting.popleft()
        span = waiting[0] if waiting and waiting[0].start <= start else None
        entity = "O"
        if span:
            entity = f"{'I' if span is begun else 'B'}-{'_'.join(span.label.split())}"
        begun = span
        stream.write(f"{text[start:end]} -X- _ {entity}\n")
    stream.write("\n")


def _fits(pattern: str, name: str) -> bool:
    """Return whether a name is that of a tag, which may be in a Repeater."""
    parts = map(re.escape, re.split(r"\{\{.*?\}\}", pattern))
    return bool(re.fullmatch(r"\d+".join(parts), name))
