"""What people do to tasks, and what must then be true of all tasks and files."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any


@dataclass
class People:
    """Remembers what people did. Tasks are documents, as Label Studio exports them."""

    copies: dict[int, Any] = field(default_factory=dict)
    """Tasks that people made of others, by id, as they left them."""
    labeled: dict[int, Any] = field(default_factory=dict)
    """Tasks of ours that people labeled, by id, as they left them."""
    deleted: dict[tuple[str, int], str | None] = field(default_factory=dict)
    """(key, row) of tasks that people deleted, and the text in the bucket at that time."""

    def remember(self, task: dict[str, Any]) -> None:
        """Remember what people made of a task: a copy, or one of ours that has labels or not."""
        known = self.copies if task["id"] in self.copies else self.labeled
        known[task["id"]] = copy.deepcopy(task)
        if known is self.labeled and not task["annotations"]:
            del known[task["id"]]

    def forget(self, task: dict[str, Any], text: str | None) -> None:
        """Remember that a person deleted a task; ``text`` is what the bucket holds for its row."""
        for known in (self.copies, self.labeled):
            known.pop(task["id"], None)
        self.deleted[place(task)] = text

    def check(
        self,
        tasks: dict[int, Any],
        in_bucket: dict[tuple[str, int], str],
        files: dict[int, Any],
        *,
        certain: bool = True,
    ) -> None:
        """Assert that nothing is lost and nothing doubled.

        ``tasks`` are all tasks by id, ``files`` the documents in the target by task id, and
        ``in_bucket`` has (key, row) → text. ``certain`` says that no deletion by hand could be
        mistaken for one of ours.
        """
        for task_id, task in {**self.copies, **self.labeled}.items():
            assert _without_time(tasks.get(task_id)) == _without_time(task), "a person's work"
        own = {task_id: task for task_id, task in tasks.items() if task_id not in self.copies}
        places = sorted(map(place, own.values()))
        assert places == sorted(set(places)), f"doubled: {places}"
        for task_id, task in own.items():
            if task_id not in self.labeled:
                assert in_bucket.get(place(task)) == task["data"]["text"], place(task)
        self._check_missing(in_bucket, set(places), certain=certain)
        check_files(tasks, files)

    def _check_missing(
        self, in_bucket: dict[tuple[str, int], str], own: set[tuple[str, int]], *, certain: bool
    ) -> None:
        missing = in_bucket.keys() - own
        assert missing <= self.deleted.keys(), f"lost: {missing - self.deleted.keys()}"
        if certain:  # only another version of the row may be a task again
            stayed = {place for place, text in self.deleted.items() if in_bucket.get(place) == text}
            assert not (stayed & own), f"loaded again: {stayed & own}"


def check_files(tasks: dict[int, Any], files: dict[int, Any]) -> None:
    """Assert that the target's files and the tasks agree."""
    for task_id, task in tasks.items():
        document = files.get(task_id, {"annotations": []})
        if task["annotations"]:
            assert document == task
        assert document["annotations"] == task["annotations"]
    for task_id in files.keys() - tasks.keys():
        assert not files[task_id]["annotations"], f"of a deleted task: {task_id}"


def place(task: dict[str, Any]) -> tuple[str, int]:
    """Return the (key, row) that a task came from."""
    origin = task["meta"]["ls_pipeline"]
    return origin["uri"].rpartition("/")[2], origin["row"]


def numbered(texts: dict[str, list[str]], rows: dict[str, dict[int, Any]]) -> dict[Any, str]:
    """Return (key, row) → text of the rows in a bucket, whose texts are in order.

    ``rows`` are those that the ledger knows of each key, by number. A row that it does not know
    has a number below 0.
    """
    known = {
        (key, row.position): number for key, own in rows.items() for number, row in own.items()
    }
    return {
        (key, known.get((key, position), -1 - position)): text
        for key, own in texts.items()
        for position, text in enumerate(own)
    }


def _without_time(task: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a task without the time of its last change, which Label Studio also sets itself."""
    return task and {name: value for name, value in task.items() if name != "updated_at"}
