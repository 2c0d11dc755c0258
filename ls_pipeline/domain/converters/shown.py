"""What a label config shows of a task, which control makes which results, and the class list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from ls_pipeline.domain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SHAPES = ("rectangle", "polygon", "ellipse", "brush", "magicwand", "bitmask", "vector")
"""Tags of regions on pictures, in small letters; with ``labels`` they have labels of their own."""

OUTLINES = ("polygon", "brush", "magicwand", "bitmask", "vector")
"""Shapes that a box does not hold."""

KEY_POINT = "keypoint"


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, picture or recording of a task, as an annotator sees it."""

    tag: str
    """The tag's name in small letters: image, text, audio."""
    name: str
    """The tag's name in the label config; in a Repeater, with the number of the repetition."""
    index: int
    """Its position in the list of a ``valueList``; else 0."""
    value: Any


@dataclass(frozen=True, slots=True)
class ObjectTag:
    """A tag that shows a value of task data."""

    tag: str
    name: str
    variable: str
    """The key, or path of keys, without the ``$``: ``photo``, ``a.b``, ``pages[{{idx}}].url``."""
    is_url: bool
    """Whether the value is the address of a text."""

    def shown_in(self, data: Mapping[str, Any]) -> Iterator[Shown]:
        for name, value in _values(self.name, self.variable, data):
            values = value if isinstance(value, list) else [value]
            for index, item in enumerate(values):
                yield Shown(self.tag, name, index, item)


@dataclass(frozen=True, slots=True)
class ControlTag:
    """A tag that makes results."""

    tag: str
    name: str
    to_names: tuple[str, ...]
    labels: tuple[str, ...]
    """In the label config's order; those of key points by ``model_index``, if all have one."""


class ShownConfig:
    """A label config, parsed. Raises ``FormatError`` if it is not XML."""

    def __init__(self, label_config: str) -> None:
        try:
            root = ET.fromstring(label_config or "<View/>")  # noqa: S314 - the project's own
        except (ET.ParseError, ValueError) as error:
            raise FormatError(f"The label config can't be read: {error}.") from error
        self.objects: list[ObjectTag] = []
        self.controls: list[ControlTag] = []
        for tag in root.iter():
            name, to_name = tag.get("name", ""), tag.get("toName", "")
            variable = tag.get("valueList") or tag.get("value") or ""
            if name and to_name and tag.tag != "Filter":
                self.controls.append(_control(tag, name, to_name))
            elif name and variable.startswith("$"):
                is_url = tag.get("valueType") == "url"
                self.objects.append(ObjectTag(tag.tag.lower(), name, variable[1:], is_url))

    def shown_in(self, data: Any, *tags: str) -> list[Shown]:
        """Return what the label config shows of a task's data, of some kinds of tags."""
        if not isinstance(data, dict):
            return []
        return [
            shown
            for each in self.objects
            if each.tag in tags
            for shown in each.shown_in(data)
            if isinstance(shown.value, str)
        ]

    def knows_object(self, names: Iterable[str]) -> bool:
        """Return whether any of these names is that of an object, which may be in a Repeater."""
        patterns = [_pattern(each.name) for each in self.objects]
        return any(pattern.fullmatch(name) for name in names for pattern in patterns)

    def controls_of(self, tag: str) -> list[ControlTag]:
        """Return the controls of all objects of a kind: image, text, audio."""
        names = {each.name for each in self.objects if each.tag == tag}
        return [control for control in self.controls if names & set(control.to_names)]

    def control(self, from_name: str) -> ControlTag | None:
        """Return the control of a result; in a Repeater, the one that it repeats."""
        for control in self.controls:
            if control.name == from_name:
                return control
        for control in self.controls:
            if "{{" in control.name and _pattern(control.name).fullmatch(from_name):
                return control
        return None

    # -- classes of regions on pictures -----------------------------------------------------

    @cached_property
    def shapes(self) -> set[str]:
        """The kinds of regions that the controls of pictures make, as rectangle and keypoint."""
        tags = {control.tag.removesuffix("labels") for control in self.controls_of("image")}
        return tags & {*SHAPES, KEY_POINT}

    @cached_property
    def has_key_points_alone(self) -> bool:
        """Whether only key points are marked: they are one object of each control."""
        return self.shapes == {KEY_POINT}

    @cached_property
    def key_points(self) -> list[str]:
        """The names of key points."""
        if KEY_POINT not in self.shapes:
            return []
        tags = {f"{KEY_POINT}labels"}
        if any(control.tag == KEY_POINT for control in self.controls_of("image")):
            tags.add("labels")
        return _labels(control for control in self.controls_of("image") if control.tag in tags)

    @property
    def classes(self) -> list[str]:
        """The classes of regions, in the label config's order."""
        controls = self.controls_of("image")
        if self.has_key_points_alone:
            named = [control for control in controls if control.labels]
            return list(dict.fromkeys(control.name for control in named if _is_labels(control)))
        tags = {"labels", *(f"{shape}labels" for shape in SHAPES)}
        return _labels(control for control in controls if control.tag in tags)


class Classes:
    """The class list: every class keeps its index, and a new one gets the next."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._indices: dict[str, int] = {}
        for name in names:
            self.index(name)

    @property
    def names(self) -> list[str]:
        return list(self._indices)

    def index(self, name: str) -> int:
        """Return the index of a class, from 0."""
        return self._indices.setdefault(name, len(self._indices))


def class_list(
    label_config: str, used: Mapping[str, Iterable[str]], before: Sequence[str] = ()
) -> list[str]:
    """Return the classes of a snapshot: those of the one before, and then the new ones.

    New ones are those of the label config, in its order, and then those that only occur in results,
    by name. ``used`` has the labels of each control.
    """
    try:
        config = ShownConfig(label_config)
    except FormatError:
        return list(before)
    found = Classes([*before, *config.classes])
    if not config.has_key_points_alone:
        tags = {"labels", *(f"{shape}labels" for shape in SHAPES)}
        for name in sorted(used):
            control = config.control(name)
            if control and control.tag in tags and control in config.controls_of("image"):
                for label in sorted(used[name]):
                    found.index(label)
    return found.names


def _control(tag: ET.Element, name: str, to_name: str) -> ControlTag:
    options = [each for each in tag.iter() if each.tag in {"Label", "Choice"}]
    if tag.tag in {"KeyPointLabels", "Labels"}:
        options = _by_model_index(options)
    labels = (each.get("alias") or each.get("value") or "" for each in options)
    known = tuple(label for label in labels if label and not label.startswith("$"))
    return ControlTag(tag.tag.lower(), name, tuple(to_name.split(",")), known)


def _by_model_index(options: list[ET.Element]) -> list[ET.Element]:
    numbers = [each.get("model_index", "") for each in options]
    if all(number.isdecimal() for number in numbers):
        return sorted(options, key=lambda each: int(each.get("model_index", "")))
    return options


def _is_labels(control: ControlTag) -> bool:
    return control.tag in {"labels", f"{KEY_POINT}labels"}


def _labels(controls: Iterable[ControlTag]) -> list[str]:
    return list(dict.fromkeys(label for control in controls for label in control.labels))


def _values(name: str, variable: str, data: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a variable means in data, with its tag's name; more than once in a Repeater."""
    if not isinstance(data, dict):
        return
    if variable in data:  # a key with dots
        yield name, data[variable]
        return
    path, bracket, rest = variable.partition("[")
    value: Any = data
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    if not bracket:
        yield name, value
        return
    flag, _, rest = rest.partition("]")
    rest = rest.removeprefix(".")
    for index, item in enumerate(value if isinstance(value, list) else []):
        if flag.isdecimal() and int(flag) != index:
            continue
        repeated, deeper = (text.replace(flag, str(index)) for text in (name, rest))
        if not deeper:
            yield repeated, item
        else:
            yield from _values(repeated, deeper, item)


def _pattern(name: str) -> re.Pattern[str]:
    """Return what matches the names of a control in a Repeater."""
    return re.compile(r"\d+".join(map(re.escape, re.split(r"\{\{.*?\}\}", name))))
