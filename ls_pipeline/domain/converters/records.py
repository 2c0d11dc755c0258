"""A record for each annotation: JSON_MIN, CSV and TSV; and JSON, which has everything.

A record has the task's data, a field for each control with what it says, and the annotation's own
fields. If task data has a key that is also such a field, it is in ``_data_<key>``.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.converters.choice import results_of
from ls_pipeline.domain.converters.lost import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ls_pipeline.domain.converters.choice import Annotation
    from ls_pipeline.domain.converters.writer import Setup, Task

OWN = ("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time")
"""Fields of a record that are not of its task's data: ``id`` is that of the task."""

KEPT = ("original_width", "original_height", "item_index", "parentID", "meta")
"""Fields of a result that are not in its value."""

SIZES = {"original_width", "original_height"}
"""Fields of a result that say nothing of a choice or a text."""


class JsonWriter:
    """Writes tasks in Label Studio's export form, with everything."""

    def __init__(self, setup: Setup) -> None:
        self._stream = setup.folder.append("result.json")
        self._separator = "[\n"

    def add(self, task: Task) -> None:
        self._stream.write(self._separator)
        self._stream.write(json.dumps({**task.document, "data": task.data}))
        self._separator = ",\n"

    def finish(self) -> None:
        self._stream.write("\n]\n" if self._separator == ",\n" else "[]\n")


class JsonMinWriter:
    """Writes records as one JSON list."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._stream = setup.folder.append("result.json")
        self._separator = "[\n"

    def add(self, task: Task) -> None:
        for annotation in task.annotations:
            self._stream.write(self._separator)
            record = dict(fields_of(self.setup, task, annotation))
            self._stream.write(json.dumps(record))
            self._separator = ",\n"

    def finish(self) -> None:
        self._stream.write("\n]\n" if self._separator == ",\n" else "[]\n")


class TableWriter:
    """Writes records as CSV or TSV, with the columns of all of them."""

    def __init__(self, setup: Setup, ending: str, delimiter: str) -> None:
        self.setup, self.path, self.delimiter = setup, f"result.{ending}", delimiter
        self._rows = setup.folder.spool()
        self._data: dict[str, None] = {}
        self._controls: dict[str, None] = {}

    def add(self, task: Task) -> None:
        data = task.data if isinstance(task.data, dict) else {}
        self._data |= dict.fromkeys(data)
        for annotation in task.annotations:
            said = said_by(self.setup, task, annotation)
            self._controls |= dict.fromkeys(said)
            cells = {name: _cell(value) for name, value in said.items()}
            own = {name: _cell(value) for name, value in _own(task, annotation).items()}
            row = [{key: _cell(value) for key, value in data.items()}, cells, own]
            self._rows.write(json.dumps(row))

    def finish(self) -> None:
        controls, columns = _names(self.setup, self._controls, self._data)
        names = ["id", *columns.values(), *controls.values(), *OWN[1:]]
        with self.setup.folder.open(self.path) as stream:
            writer = csv.writer(stream, delimiter=self.delimiter, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(names)
            for line in self._rows.read():
                data, said, own = json.loads(line)
                row = {columns[key]: value for key, value in data.items()}
                row |= {controls[key]: value for key, value in said.items()}
                row |= own
                writer.writerow([row.get(name, "") for name in names])


def fields_of(setup: Setup, task: Task, annotation: Annotation) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a record."""
    said = said_by(setup, task, annotation)
    data = task.data if isinstance(task.data, dict) else {}
    controls, columns = _names(setup, said, data)
    yield from ((columns[key], value) for key, value in data.items())
    yield from ((controls[key], value) for key, value in said.items())
    yield from _own(task, annotation).items()


def _names(
    setup: Setup, said: Iterable[str], data: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of fields, all different: of controls, and of keys of task data."""
    taken = set(OWN)

    def free(name: str, prefix: str) -> str:
        while name in taken:
            name = prefix + name
        taken.add(name)
        return name

    controls = {name: free(name, "_label_") for name in said}
    taken |= {control.name for control in setup.config.controls}
    return controls, {key: free(key, "_data_") for key in data}


def _own(task: Task, annotation: Annotation) -> dict[str, Any]:
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    values = {name: annotation.get(name) for name in OWN}
    return {**values, "id": task.id, "annotation_id": annotation.get("id"), "annotator": person}


def said_by(setup: Setup, task: Task, annotation: Annotation) -> dict[str, Any]:
    """Return what each control of an annotation says, as Label Studio's JSON_MIN has it.

    One choice or text is a text; anything else is a list of values.
    """
    results = results_of(annotation)
    ids = Counter(str(result.get("id")) for result in results if isinstance(result, dict))
    said: dict[str, list[Any]] = {}
    kinds: dict[str, str] = {}
    for position, item in enumerate(results):
        result: Mapping[str, Any] = item if isinstance(item, dict) else {}
        source = source_of(task.id, annotation, position, result)
        kind, id_ = source.kind, source.result_id
        if kind == "relation":
            setup.losses.lose(source, "it is a relation")
        elif not isinstance(result.get("value"), dict):
            setup.losses.lose(source, "it has no value")
        else:
            name = str(result.get("from_name") or kind)
            control = setup.config.control(name)
            more = ["to_name"] if control and len(control.to_names) > 1 else []
            said.setdefault(name, []).append(_pretty(result, kind, ids[id_] > 1, more))
            kinds[name] = kind
    return {
        name: values[0] if len(values) == 1 and kinds[name] in {"choices", "textarea"} else values
        for name, values in said.items()
    }


def _pretty(
    result: Mapping[str, Any],
    kind: str,
    is_linked: bool,  # noqa: FBT001
    names: Sequence[str],
) -> Any:
    """Return what a result says; ``names`` are further fields of it that say something."""
    value = result["value"]
    chosen = value.get({"choices": "choices", "textarea": "text"}.get(kind, ""))
    more = {name: result[name] for name in (*KEPT, *names) if result.get(name) is not None}
    if kind == "chatmessage" and "chatmessage" in value and not more:
        return value["chatmessage"]
    is_alone = not is_linked and len(value) == 1 and not more.keys() - SIZES
    if is_alone and isinstance(chosen, list) and len(chosen) == 1:
        return chosen[0]
    return {**({"id": result.get("id")} if is_linked else {}), **value, **more}


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False)
