"""What the pipeline promises, as a model that fits on a page."""

from __future__ import annotations

from dataclasses import dataclass, field

BAD = "not json"


@dataclass(eq=False)
class Task:
    key: str
    text: str
    worked_on: bool = False


@dataclass(eq=False)
class Row:
    number: int
    task: Task
    seen: str
    """The text that the row had last."""
    position: int | None
    """None if its object has it no more."""


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
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """By key."""
    numbered: int = 0

    def load(self):
        for key in sorted(self.known.keys() - self.bucket.keys()):
            del self.known[key]
            self.quarantine.discard(key)
            self.rows_gone(key, self.rows.get(key, []))
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
        known = self.rows.setdefault(key, [])
        places = self.places(known, content)
        gone = [row for row in known if row not in places]
        for position, text in enumerate(content):
            row = places[position]
            if row is None:
                self.numbered += 1
                known.append(Row(self.numbered, self.new_task(key, text), text, position))
            else:
                if text != row.seen:
                    self.change(row, text)
                row.seen, row.position = text, position
        for row in gone:
            row.position = None
        self.rows_gone(key, gone)

    def places(self, known, content):
        """Return which known row each row of a content is, by its text, else by its position."""
        places = list[Row | None](None for _ in content)
        known.sort(key=lambda row: (row.position is None, row.position or 0, row.number))
        for row in known:
            same = [n for n, text in enumerate(content) if text == row.seen and not places[n]]
            if same:
                places[same[0]] = row
        for row in known:
            at = row.position
            if row not in places and at is not None and at < len(places) and not places[at]:
                places[at] = row
        return places

    def change(self, row, text):
        if row.task not in self.tasks and self.on_change == "update":  # deleted by hand
            row.task = self.new_task(row.task.key, text)
        elif not row.task.worked_on and self.on_change != "ignore":
            row.task.text = text

    def state(self):
        """Return (key, position, text, worked on) of the tasks, those alike as numbered."""
        rows = sorted(
            (row for rows in self.rows.values() for row in rows), key=lambda row: row.number
        )
        return [
            ((row.task.key, row.position, row.task.text, row.task.worked_on), row.task)
            for row in rows
            if row.task in self.tasks
        ]

    def new_task(self, key, text):
        self.tasks.append(Task(key, text))
        return self.tasks[-1]

    def rows_gone(self, key, rows):
        for row in list(rows):
            if self.on_delete == "delete" and not (row.task in self.tasks and row.task.worked_on):
                self.rows[key].remove(row)
                if row.task in self.tasks:
                    self.tasks.remove(row.task)
