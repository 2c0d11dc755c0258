"""What the pipeline promises, as a model that fits on a page."""

from __future__ import annotations

from dataclasses import dataclass, field

BAD = "not json"


@dataclass(eq=False)
class Task:
    key: str
    row: int
    text: str
    worked_on: bool = False


@dataclass
class Model:
    """The world as it must be after a run that ended well."""

    bucket: dict[str, list[str] | str] = field(default_factory=dict)
    """Key → the texts of its rows, or `BAD`."""
    select: str = ""
    """The first letters of keys that the regex accepts."""
    on_change: str = "update"
    on_delete: str = "keep"
    tasks: list[Task] = field(default_factory=list)
    quarantine: set[str] = field(default_factory=set)
    known: dict[str, list[str] | str] = field(default_factory=dict)
    row_of: dict[tuple[str, int], tuple[Task, str]] = field(default_factory=dict)
    """(key, row) → its task, and the text that was last seen there."""

    def load(self):
        for key in sorted(self.known.keys() - self.bucket.keys()):
            del self.known[key]
            self.quarantine.discard(key)
            self.rows_gone(key, here=0)
        for key, content in sorted(self.bucket.items()):
            if self.known.get(key) != content and (not self.select or key[0] in self.select):
                replaced = key in self.known
                self.known[key] = content
                if not replaced or self.on_change != "ignore" or key in self.quarantine:
                    self.take(key, content)

    def take(self, key, content):
        self.quarantine.discard(key)
        if content == BAD:
            self.quarantine.add(key)
            return
        for row, text in enumerate(content):
            task, seen = self.row_of.get((key, row), (None, None))
            if task is None or (text != seen and self.wants_another(task)):
                task = Task(key, row, text)
                self.tasks.append(task)
            elif text != seen and not task.worked_on and self.on_change != "ignore":
                task.text = text
            self.row_of[key, row] = task, text
        self.rows_gone(key, here=len(content))

    def wants_another(self, task):
        deleted_by_hand = task not in self.tasks
        return self.on_change == "new_task" or (self.on_change == "update" and deleted_by_hand)

    def rows_gone(self, key, here):
        for place in [place for place in self.row_of if place[0] == key and place[1] >= here]:
            task, _ = self.row_of[place]
            if self.on_delete == "delete" and not (task in self.tasks and task.worked_on):
                del self.row_of[place]
                if task in self.tasks:
                    self.tasks.remove(task)
