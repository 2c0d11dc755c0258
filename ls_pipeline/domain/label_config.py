"""What a label config asks of a task: the rules of Label Studio's import, and of its editor.

What data must have, Label Studio decides in ``extract_data_types`` (``core/label_config.py``) and
``TaskValidator`` (``tasks/validation.py``). It imports any prediction, but shows only what fits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import getitem
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.notes import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_NAMES = 10
"""Keys that a reason names."""

TYPES: Mapping[str, tuple[type, ...]] = {
    "Text": (str, int, float, list),
    "Header": (str, int, float),
    "Image": (str, list),
    "Paragraphs": (list, str),
    "Chat": (list, str),
    "Table": (dict, list, str),
    "TimeSeries": (dict, list, str),
    "TimeSeriesChannel": (dict, list, str),
    "List": (list, str),
    "Choices": (str, list),
    "PolygonLabels": (str, list),
    "Labels": (str, list),
    "BrushLabels": (str, list),
    "EllipseLabels": (str, list),
    "HyperTextLabels": (str, list),
    "KeyPointLabels": (str, list),
    "ParagraphLabels": (str, list),
    "RectangleLabels": (str, list),
    "TimeSeriesLabels": (str, list),
    "Taxonomy": (str, list, type(None)),
    "Ranker": (list, str),
}
"""The types of values that a tag takes. All other tags take a string."""

UNDEFINED = "$undefined$"
"""A key that Label Studio renames to the first key that the label config shows."""

NUMBERS = {
    "rectangle": ("x", "y", "width", "height"),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "keypoint": ("x", "y"),
}
"""Without these, the editor can't draw a region."""


def kind_of(type_: type) -> str:
    """Return what JSON calls a type."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type_, "a number")


@dataclass(frozen=True, slots=True)
class DataKey:
    """A value of a task's data that a label config shows."""

    variable: str
    """As in the label config, without the ``$``: ``image``, ``a.b``, ``pages[{{idx}}].url``."""
    tag: str = ""
    is_value_list: bool = False
    """Whether the tag shows each item of a list (``valueList``)."""

    @property
    def name(self) -> str:
        """The key, or the path of keys with dots. For ``pages[{{idx}}].url`` it is ``pages``."""
        return self.variable.partition("[")[0]

    @property
    def types(self) -> tuple[type, ...]:
        return (list,) if "[" in self.variable else TYPES.get(self.tag, (str,))

    def value_in(self, data: Mapping[str, Any]) -> object:
        """Return the value in a task's data. Raises ``LookupError`` if it is not there."""
        try:
            return reduce(getitem, self.name.split("."), data)
        except TypeError as error:  # something else is there instead of an object
            raise LookupError(self.name) from error

    def data_with(self, value: object) -> dict[str, Any]:
        """Return data in which the label config shows a value."""
        parts = re.findall(r"\[[^\]]*\]|[^.\[]+", self.variable)
        data: Any = [value] if self.is_value_list else value
        for part in reversed(parts):
            data = [data] if part.startswith("[") else {part: data}
        return dict(data)


@dataclass(frozen=True, slots=True)
class Control:
    """A tag that makes results."""

    tag: str
    to_names: Sequence[str]
    options: frozenset[str]
    """Labels or choices; empty if they are not in the label config."""

    def errors(self, result: Mapping[str, Any], index: Mapping[str, str]) -> Iterator[str]:
        """Yield why a result does not fit. In ``to_names``, ``index`` replaces flags."""
        to_name, type_, value = str(result["to_name"]), str(result["type"]), result["value"]
        to_names = set(self.to_names)
        for flag, number in index.items():
            to_names = {name.replace(flag, number) for name in to_names}
        if not to_names.issuperset(to_name.split(",")):
            yield f"its control is not for {quoted(to_name)}"
        if type_ not in self._types and not (self.tag == "labels" and type_.endswith("labels")):
            yield f"its control makes no {quoted(type_)}"
        if not isinstance(value, dict):
            yield f"its value is {kind_of(type(value))}, not an object"
            return
        for name in NUMBERS.get(type_.removesuffix("labels"), ()):
            if not isinstance(value.get(name), (int, float)):
                yield f"its value has no number {quoted(name)}"
        chosen = value.get(type_, [])
        if self.options and not isinstance(chosen, list):
            yield f"its {type_} are {kind_of(type(chosen))}, not a list"
        elif self.options:
            unknown = (text for text in _texts(chosen) if text not in self.options)
            yield from (f"its control does not offer {quoted(text)}" for text in unknown)

    @property
    def _types(self) -> set[str]:
        return {self.tag, {"chat": "chatmessage", "magicwand": "brush"}.get(self.tag, "")}


class LabelConfig:
    """A label config, parsed. It asks nothing if it is empty.

    Raises ``NotATaskError`` if it is not XML.
    """

    def __init__(self, label_config: str = "") -> None:
        try:
            root = ET.fromstring(label_config or "<View/>")  # noqa: S314 - the project's own
        except (ET.ParseError, ValueError) as error:  # the latter for half of a surrogate pair
            raise NotATaskError(f"The label config is not XML: {error}.") from error
        named = [tag for tag in root.iterfind(".//*") if tag.get("name")]
        self.is_empty = not named
        """Whether it shows nothing and asks nothing, as that of a new project."""
        self._first = next(iter(_values(named)), "")
        self._keys = tuple(_data_keys(named))
        controls = ((tag.get("name", ""), _control(tag)) for tag in named)
        self._controls = {name: control for name, control in controls if control}
        flags = {tag.get("indexFlag") or "{{idx}}" for tag in root.iter("Repeater")}
        self._repeated = [
            (_pattern(name, shown), shown, control)
            for name, control in self._controls.items()
            if (shown := sorted((flag for flag in flags if flag in name), key=name.index))
        ]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that data must have, in document order: `DataKey.name` of each."""
        return tuple(dict.fromkeys(key.name for key in self._keys))

    def key(self, name: str) -> DataKey:
        """Return the key with a name; if the label config does not show it, one for any tag."""
        return next((key for key in self._keys if key.name == name), DataKey(name))

    def data_error(self, data: Mapping[str, Any]) -> str:
        """Return why a task can't have this data; an empty text if it can."""
        if UNDEFINED in data and self._first:
            data = {**data, self._first: data[UNDEFINED]}
        missing: dict[str, None] = {}
        wrong: list[str] = []
        for key in self._keys:
            try:
                value = key.value_in(data)
            except LookupError:
                missing[key.name] = None
                continue
            if not isinstance(value, key.types):
                kinds = " or ".join(dict.fromkeys(map(kind_of, key.types)))
                wrong.append(
                    f"<{key.tag}> of the label config shows {quoted(key.name)}, which is {kinds}; "
                    f"the task has {kind_of(type(value))}."
                )
        if missing:
            names = ", ".join(map(quoted, islice(data, MOST_NAMES))) or "none"
            lacking = ", ".join(map(quoted, islice(missing, MOST_NAMES)))
            return f"The label config shows {lacking}, which the task lacks; it has {names}."
        return wrong[0] if wrong else ""

    def prediction_error(self, prediction: Mapping[str, Any]) -> str:
        """Return why annotators would not see a prediction as it is; empty if they would."""
        score, results = prediction.get("score"), prediction.get("result")
        if score is not None and not _is_number(score):
            return "its score is not a number."
        if not isinstance(results, list):
            return "it has no list of results."
        ids = {str(result.get("id")) for result in results if isinstance(result, dict)}
        for number, result in enumerate(results):
            if error := self._result_error(result, ids):
                return f"result {number}: {error}."
        return ""

    def _result_error(self, result: object, ids: set[str]) -> str:
        if not isinstance(result, dict):
            return f"it is {kind_of(type(result))}, not an object"
        is_relation = result.get("type") == "relation"
        fields = ("from_id", "to_id") if is_relation else ("from_name", "to_name", "type", "value")
        if lacking := [name for name in fields if name not in result]:
            return f"it has no {quoted(lacking[0])}"
        if is_relation:
            unknown = [id_ for name in fields if (id_ := str(result[name])) not in ids]
            return f"no result has the id {quoted(unknown[0])}" if unknown else ""
        name = str(result["from_name"])
        if control := self._controls.get(name):
            return next(control.errors(result, {}), "")
        for pattern, flags, control in self._repeated:
            if match := pattern.fullmatch(name):
                index = dict(zip(flags, match.groups(), strict=True))
                return next(control.errors(result, index), "")
        return f"the label config has no control {quoted(name)}"


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, (int, float, str)) and math.isfinite(float(value))
    except ValueError:
        return False


def _values(named: Sequence[ET.Element]) -> dict[str, str]:
    """Return the variables that tags show by ``value``, each with its tag, as Label Studio does."""
    tags: dict[str, str] = {}
    for tag in named:
        value = tag.get("value", "")
        variable = value[1:] if value.startswith("$") else ""
        if not variable and (found := re.search(r"\$(\w+)", value)):
            variable = found[1]
        if variable and tags.get(variable) != "Video":
            tags[variable] = tag.tag
    return tags


def _data_keys(named: Sequence[ET.Element]) -> Iterator[DataKey]:
    """Yield what tags show: all that Label Studio's import asks for, then items of lists.

    Without its list, a task is imported, but shows nothing.
    """
    values = _values(named)
    yield from (DataKey(variable, tag) for variable, tag in values.items())
    for tag in named:
        value = tag.get("valueList", "")
        if len(value) > 1 and value.startswith("$") and value[1:] not in values:
            yield DataKey(value[1:], tag.tag, is_value_list=True)


def _control(tag: ET.Element) -> Control | None:
    type_, to_names = tag.tag.lower(), tag.get("toName", "").split(",")
    if type_ in {"chat", "reactcode", "pairwise"}:  # their results are for themselves
        to_names.append(tag.get("name", ""))
    if not any(to_names) or type_ == "filter":
        return None
    options: set[str] = set()
    for option in tag.iter():
        if option.tag in {"Label", "Choice"}:
            options |= {option.get("value", ""), option.get("alias", "")} - {""}
    in_data = "$" in tag.get("value", "") or tag.get("apiUrl") or type_ == "taxonomy"
    if in_data or any(option.startswith("$") for option in options):
        options = set()
    return Control(type_, to_names, frozenset(options))


def _pattern(name: str, flags: Sequence[str]) -> re.Pattern[str]:
    """Return what matches a name in a Repeater, which has a number in place of each flag."""
    pattern = re.escape(name)
    for flag in flags:
        pattern = pattern.replace(re.escape(flag), r"(\d+)", 1).replace(re.escape(flag), r"\d+")
    return re.compile(pattern)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a list of texts and lists; the latter are paths of nested choices."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
