"""Which tasks a model is trained on, and which it is evaluated on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import re2

from ls_pipeline.domain.completions import canonical_json
from ls_pipeline.domain.objects import compile_regex

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

BY_ROW = "row"
"""The ``group_by`` that lets each row of an object have a split of its own."""

BY_DATA, BY_KEY = "data:", "key:"
"""How a ``group_by`` begins that groups by the task's data, or by the object's key."""

_URI = re.compile(r"[a-z0-9]+://[^/]+/", re.IGNORECASE)


@dataclass(frozen=True)
class SplitRule:
    """What a task's split depends on: the shares of the splits, and what keeps tasks together."""

    validation: float = 0.1
    test: float = 0.1
    """The shares of the validation and test splits; the rest is for training."""
    group_by: str = ""
    """As `group_by_error` accepts it; empty: the tasks of an object are together."""

    @property
    def shares(self) -> dict[str, float]:
        """The shares as a manifest has them."""
        return {"validation": self.validation, "test": self.test}

    @property
    def needs_data(self) -> bool:
        """Whether a task's group is in its data."""
        return self.group_by.startswith(BY_DATA)

    def split(self, task: Mapping[str, Any], data: object) -> Split:
        """Return the split of a task, from its row in a table and its data."""
        return assign_split(self.group(task, data), self)

    def group(self, task: Mapping[str, Any], data: object) -> str:
        """Return the group of a task; all tasks of a group are in one split.

        It is the URI of the task's object if the task lacks what the tasks are grouped by. A task
        that was made in Label Studio has no object, and is alone.
        """
        item: str = task["object_uri"] or f"task {task['task_id']}"
        if self.group_by == BY_ROW:
            return f"{item} {task['object_row'] or 0}"
        if self.needs_data:
            return _text(_value(data, self.group_by[len(BY_DATA) :])) or item
        if self._pattern and (start := _URI.match(item)):
            return _matched(self._pattern.match(item[start.end() :])) or item
        return item

    @cached_property
    def _pattern(self) -> re2._Regexp | None:
        if not self.group_by.startswith(BY_KEY):
            return None
        return compile_regex(self.group_by[len(BY_KEY) :])


def assign_split(group: str, rule: SplitRule) -> Split:
    """Return the split of a group, which depends on its name alone and so never changes.

    If shares grow, groups leave ``train`` only.
    """
    digest = hashlib.sha256(group.encode(errors="surrogatepass")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < rule.test:
        return "test"
    return "validation" if position >= 1 - rule.validation else "train"


def group_by_error(group_by: str) -> str:
    """Return why a text can't be a ``group_by``; empty if it can."""
    if group_by in {"", BY_ROW} or (group_by.startswith(BY_DATA) and group_by != BY_DATA):
        return ""
    if group_by.startswith(BY_KEY) and group_by != BY_KEY:
        try:
            compile_regex(group_by[len(BY_KEY) :])
        except re2.error as error:
            reason = error.args[0] if error.args else error
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
            return f"group_by {group_by!r} is not valid RE2: {text}"
        return ""
    return (
        f"group_by {group_by!r} must be data: with a key of the task data, as in data:patient.id, "
        "key: with an expression for the object's key, as in key:videos/([^/]+)/, or row"
    )


def _matched(match: Any) -> str:
    """Return the text that a match's own groups have, or the whole match without any."""
    if match is None:
        return ""
    texts = [text or "" for text in match.groups()]
    return "\n".join(texts) if any(texts) else str(match[0])


def _value(data: object, path: str) -> object:
    """Return the value of a key, or of a path of keys with dots; None if it is missing."""
    if isinstance(data, dict) and path in data:
        return data[path]
    for key in path.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _text(value: object) -> str:
    """Return a value as text: the number 7 in a JSON file and the text 7 in a table are one group.

    It is empty if the value is missing.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return canonical_json(value).decode()
